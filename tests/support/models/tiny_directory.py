"""Writes a model of a few thousand random weights as transformers keeps them, with a tokenizer."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from tests.support.models.tiny_models import VOCAB_SIZE, tiny_llama

END_TOKEN = "<end>"
END_ID = VOCAB_SIZE - 1


def write_tiny_directory(directory: Path) -> None:
    """A Llama with a vocabulary of single characters."""
    tiny_llama().save_pretrained(directory)
    names = [chr(ord("!") + i) for i in range(END_ID)]
    tokenizer = Tokenizer(BPE({name: i for i, name in enumerate([*names, END_TOKEN])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_TOKEN).save_pretrained(
        directory
    )
