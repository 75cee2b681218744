"""A checkpoint as people download it, of a few thousand random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.support.models.architectures import Architecture


def tiny_config(architecture: Architecture) -> Any:
    """Of transformers."""
    return AutoConfig.for_model(architecture.model_type, **architecture.config_fields)


def tiny_model(architecture: Architecture) -> Any:
    """Of transformers, with random weights everywhere, also in norms and biases."""
    torch.manual_seed(crc32(architecture.name.encode()))
    model = AutoModelForCausalLM.from_config(tiny_config(architecture))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def write_checkpoint(model: Any, directory: Path) -> None:
    """Configuration, safetensors and a tokenizer of the model's size: a token for each byte."""
    model.save_pretrained(directory)
    alphabet = bytes_to_unicode()  # type: ignore[no-untyped-call]
    names = {alphabet[byte]: byte for byte in range(min(model.config.vocab_size, len(alphabet)))}
    tokenizer = Tokenizer(BPE(names, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
