"""What a GGUF file says of its vocabulary: the bytes of every id, and which ids make no text.

It reads the file's own words, as llama.cpp does on the boards: tokenizers that are made from such a
file rename tokens, lose one of two with the same name, and make up ids for what they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from shared.errors import ModelError
from shared.protocol.vocabulary import without_padding
from verifier.torch_target.loading.token_names import (
    byte_level_bytes,
    byte_of_name,
    sentencepiece_bytes,
)
from verifier.torch_target.model_files.gguf_header import GgufHeader, read_gguf_header

# Types of tokens, as in gguf.TokenType.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_LITERAL = frozenset({_UNKNOWN, _CONTROL, _USER_DEFINED})  # spelled as they are meant
_SILENT = frozenset({_UNKNOWN, _CONTROL})

# How normal tokens are spelled, by `tokenizer.ggml.model`.
_SPELLINGS: Mapping[str, Callable[[str], bytes]] = MappingProxyType(
    {
        "gpt2": byte_level_bytes,
        "llama": sentencepiece_bytes,
        "t5": sentencepiece_bytes,
        "gemma4": sentencepiece_bytes,
    }
)


class GgufVocabulary(msgspec.Struct, frozen=True):
    """The vocabulary of one file."""

    token_bytes: tuple[bytes, ...]  # ids that pad a vocabulary have none
    special_ids: frozenset[int]


def read_gguf_vocabulary(path: Path) -> GgufVocabulary:
    """The vocabulary in a GGUF file.

    Raises:
        ModelError: the file is broken, or its vocabulary is of a kind that is not known here.
    """
    return vocabulary_of(read_gguf_header(path))


def vocabulary_of(header: GgufHeader) -> GgufVocabulary:
    """The vocabulary of a file whose head was read.

    Raises:
        ModelError: it has none, or one of a kind that is not known here.
    """
    fields, path = header.fields, header.path
    kind = fields.get("tokenizer.ggml.model")
    tokens = fields.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not isinstance(kind, bytes):
        raise ModelError(f"{path} has no vocabulary")
    spelling = _SPELLINGS.get(kind.decode(errors="replace"))
    if spelling is None:
        known = ", ".join(_SPELLINGS)
        raise ModelError(
            f"the vocabulary of {path} is of the kind {kind.decode(errors='replace')}; "
            f"a target can have {known}"
        )
    types = fields.get("tokenizer.ggml.token_type")
    types = types if isinstance(types, list) else [_NORMAL] * len(tokens)
    return GgufVocabulary(
        without_padding(_literal(*token, spelling) for token in zip(tokens, types, strict=True)),
        frozenset(i for i, token_type in enumerate(types) if token_type in _SILENT),
    )


def _literal(name: bytes, token_type: int, spelling: Callable[[str], bytes]) -> bytes:
    if token_type == _NORMAL:
        return spelling(name.decode(errors="surrogateescape"))
    if token_type in _LITERAL:
        return name
    if token_type == _BYTE:
        return byte_of_name(name.decode(errors="surrogateescape")) or name
    return b""
