"""A verifier's vocabulary as it hands it out to boards that have no model of their own.

MessagePack: an array of one element, the bytes of every id in order. Pure.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Annotated, overload

import msgspec
from msgspec import Meta

from shared.errors import RemoteProtocolError
from shared.protocol.token_ids import MAX_VOCAB_SIZE

# The largest vocabularies around hold 262,144 ids of 7 bytes on average.
MAX_VOCABULARY_BYTES = 64 * 1024 * 1024


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    token_bytes: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=MAX_VOCAB_SIZE)]


class TokenBytes(Sequence[bytes]):
    """The bytes of every id in one piece: 4 bytes an id beside the text, where a tuple takes 48."""

    __slots__ = ("_ends", "_text")

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._text = b"".join(token_bytes)
        self._ends = array("I", accumulate(map(len, token_bytes), initial=0))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[bytes]:
        return (self._text[start:end] for start, end in pairwise(self._ends))

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[bytes, ...]: ...
    def __getitem__(self, place: int | slice) -> bytes | tuple[bytes, ...]:
        places = range(len(self))[place]
        if isinstance(places, int):
            return self._text[self._ends[places] : self._ends[places + 1]]
        return tuple([self._text[self._ends[i] : self._ends[i + 1]] for i in places])


def pack_vocabulary(token_bytes: Sequence[bytes]) -> bytes:
    """The vocabulary as it travels."""
    return msgspec.msgpack.encode(_Packed(tuple(token_bytes)))


def unpack_vocabulary(packed: bytes) -> tuple[bytes, ...]:
    """The bytes of every id that travelled.

    Raises:
        RemoteProtocolError: it is none.
    """
    if len(packed) > MAX_VOCABULARY_BYTES:
        raise RemoteProtocolError(
            f"vocabulary of {len(packed)} bytes exceeds {MAX_VOCABULARY_BYTES}"
        )
    try:
        return msgspec.msgpack.decode(packed, type=_Packed).token_bytes
    except (msgspec.DecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"vocabulary cannot be read: {error}") from None


def without_padding(token_bytes: Iterable[bytes]) -> tuple[bytes, ...]:
    """The bytes of all ids, none for padding that a converter of models has named by its number.

    llama.cpp's converter calls ids that a tokenizer lacks `[PAD151646]` and so on; in older files
    they are tokens like others, and in the model's own files they are not there.
    """
    return tuple(
        b"" if piece.startswith(b"[PAD") and piece == b"[PAD%d]" % token_id else piece
        for token_id, piece in enumerate(token_bytes)
    )


def vocabulary_tag(packed: bytes) -> str:
    """A name for exactly these bytes: a board that has them need not get them again."""
    return hashlib.blake2b(packed, digest_size=16).hexdigest()
