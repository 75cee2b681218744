"""A tokenizer's decoder says how its tokens are spelled; their names never do."""

from __future__ import annotations

import pytest
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from shared.errors import ModelError
from verifier.torch_target.loading.decoder_names import name_reader

LLAMA = decoders.Sequence(
    [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
)
GPT_2 = decoders.ByteLevel()


def tokenizer_with(
    decoder: decoders.Decoder | None, pre_tokenizer: pre_tokenizers.PreTokenizer | None = None
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(BPE({"▁a": 0}, []))
    if decoder is not None:
        tokenizer.decoder = decoder
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize(
    ("decoder", "name", "expected"),
    [
        (LLAMA, "▁the▁", b" the "),
        (LLAMA, "<0xE2>", b"\xe2"),
        (LLAMA, "<0xE2>x", b"<0xE2>x"),
        (LLAMA, "Ġx", "Ġx".encode()),
        (GPT_2, "Ġx", b" x"),
        (GPT_2, "âĸģ", "▁".encode()),
        (GPT_2, "<0x41>", b"<0x41>"),
        (GPT_2, "a b", b"a b"),
        (decoders.Sequence([GPT_2, decoders.Fuse()]), "Ġx", b" x"),
        (decoders.Metaspace(), "▁x", b" x"),
        (decoders.Metaspace(), "<0x41>", b"<0x41>"),
        (decoders.BPEDecoder(), "x</w>", b"x "),
        (decoders.WordPiece(), "##ing", b"ing"),
        (decoders.WordPiece(), "go", b" go"),
        (decoders.Fuse(), "▁x", "▁x".encode()),
    ],
)
def test_a_name_has_the_bytes_that_the_decoder_gives_it(
    decoder: decoders.Decoder, name: str, expected: bytes
) -> None:
    assert expected == name_reader(tokenizer_with(decoder))(name)


@pytest.mark.parametrize(
    ("pre_tokenizer", "expected"),
    [
        (pre_tokenizers.ByteLevel(), "▁x".encode()),
        (pre_tokenizers.Metaspace(), b" x"),
        (pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.Metaspace()]), b" x"),
        (None, "▁x".encode()),
    ],
)
def test_without_a_decoder_the_first_step_tells(
    pre_tokenizer: pre_tokenizers.PreTokenizer | None, expected: bytes
) -> None:
    assert expected == name_reader(tokenizer_with(None, pre_tokenizer))("▁x")


def test_what_cannot_be_known_is_refused() -> None:
    with pytest.raises(ModelError, match=r"the tokenizer replaces .*a.* in its tokens"):
        name_reader(tokenizer_with(decoders.Replace(Regex("a+"), " ")))
    with pytest.raises(ModelError, match="a tokenizer of the kind object does not say which bytes"):
        name_reader(object())
