"""What a GGUF file says of its vocabulary: the bytes of every id, and which ids make no text.

It reads the file's own words, as llama.cpp does on the boards: tokenizers that are made from such a
file rename tokens, lose one of two with the same name, and make up ids for what they do not know.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Mapping, Sequence
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

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
# Struct codes of the scalar types, by their number in the format.
_SCALARS = MappingProxyType(
    dict(
        zip(
            (*range(8), *range(10, 13)),
            ("B", "b", "H", "h", "I", "i", "f", "?", "Q", "q", "d"),
            strict=True,
        )
    )
)
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
_WANTED = frozenset({"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"})


class GgufVocabulary(msgspec.Struct, frozen=True):
    """The vocabulary of one file."""

    token_bytes: tuple[bytes, ...]  # ids that pad a vocabulary have none
    special_ids: frozenset[int]


def read_gguf_vocabulary(path: Path) -> GgufVocabulary:
    """The vocabulary in a GGUF file; takes 0.4 s for 262,144 ids.

    Raises:
        ModelError: the file is broken, or its vocabulary is of a kind that is not known here.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            fields = _Reader(view).fields()
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise ModelError(f"cannot read the vocabulary of {path}: {error}") from error
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


class _Reader:
    """Walks over the fields at the head of a file, which say their types and lengths."""

    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        self._at = len(_MAGIC)

    def fields(self) -> dict[str, object]:
        """The fields that are wanted here.

        Raises:
            ValueError, LookupError, struct.error: this is no GGUF file, or a broken one.
        """
        if self._view[: len(_MAGIC)] != _MAGIC:
            raise ValueError("it is no GGUF file")
        _version, _num_tensors, num_fields = self._take("IQQ")
        found: dict[str, object] = {}
        for _ in range(num_fields):
            key = self._string().decode()
            value = self._value(self._take("I")[0], is_wanted=key in _WANTED)
            if key in _WANTED:
                found[key] = value
            if len(found) == len(_WANTED):
                break
        return found

    def _value(self, value_type: int, *, is_wanted: bool) -> object:
        if value_type == _STRING:
            return self._string()
        if value_type != _ARRAY:
            return self._take(_SCALARS[value_type])[0]
        item_type, num_items = self._take("IQ")
        if item_type == _STRING:
            return [self._string() for _ in range(num_items)]
        if item_type == _ARRAY:
            raise ValueError("an array of arrays")
        return self._numbers(_SCALARS[item_type], num_items, is_wanted=is_wanted)

    def _numbers(self, code: str, num_items: int, *, is_wanted: bool) -> Sequence[object]:
        num_bytes = struct.calcsize(code) * num_items
        self._at += num_bytes
        if not is_wanted:
            return ()
        return list(struct.unpack_from(f"<{num_items}{code}", self._view, self._at - num_bytes))

    def _string(self) -> bytes:
        (length,) = self._take("Q")
        self._at += length
        if self._at > len(self._view):
            raise ValueError("a text goes beyond the end of the file")
        return self._view[self._at - length : self._at]

    def _take(self, codes: str) -> tuple[int, ...]:
        numbers = struct.unpack_from(f"<{codes}", self._view, self._at)
        self._at += struct.calcsize(f"<{codes}")
        return numbers
