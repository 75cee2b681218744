"""A verifier's vocabulary as it hands it out to boards that have no model of their own.

MessagePack: an array of one element, the bytes of every id in order. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.errors import RemoteProtocolError
from shared.protocol.token_ids import MAX_VOCAB_SIZE

# The largest vocabularies around hold 262,144 ids of 7 bytes on average.
MAX_VOCABULARY_BYTES = 64 * 1024 * 1024


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    token_bytes: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=MAX_VOCAB_SIZE)]


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
