"""A verifier's vocabulary as it hands it out to boards that have no model of their own.

MessagePack: the bytes of every id in order, then the packed special ids. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.errors import RemoteProtocolError
from shared.protocol.token_ids import MAX_VOCAB_SIZE, pack_token_ids, unpack_token_ids

# The largest vocabularies around hold 262,144 ids of 7 bytes on average.
MAX_VOCABULARY_BYTES = 64 * 1024 * 1024


class Vocabulary(msgspec.Struct, frozen=True):
    """What every id means."""

    token_bytes: tuple[bytes, ...]
    special_ids: frozenset[int]


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    token_bytes: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=MAX_VOCAB_SIZE)]
    special_ids: bytes


def pack_vocabulary(token_bytes: Sequence[bytes], special_ids: frozenset[int]) -> bytes:
    """The vocabulary as it travels."""
    packed = _Packed(tuple(token_bytes), pack_token_ids(sorted(special_ids)))
    return msgspec.msgpack.encode(packed)


def unpack_vocabulary(packed: bytes) -> Vocabulary:
    """The vocabulary that travelled.

    Raises:
        RemoteProtocolError: it is none.
    """
    if len(packed) > MAX_VOCABULARY_BYTES:
        raise RemoteProtocolError(
            f"vocabulary of {len(packed)} bytes exceeds {MAX_VOCABULARY_BYTES}"
        )
    try:
        found = msgspec.msgpack.decode(packed, type=_Packed)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"vocabulary cannot be read: {error}") from None
    special_ids = unpack_token_ids(found.special_ids, len(found.token_bytes)).tolist()
    return Vocabulary(found.token_bytes, frozenset(special_ids))


def vocabulary_tag(packed: bytes) -> str:
    """A name for exactly these bytes: a board that has them need not get them again."""
    return hashlib.blake2b(packed, digest_size=16).hexdigest()
