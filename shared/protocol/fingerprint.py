"""A short proof that two ends mean the same tokens by the same ids.

One 8-byte hash for each block of 1,024 ids over their bytes, and one over the special ids.
Padding at the end of a vocabulary (ids without bytes) is left out, because converters pad
differently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgpack
import msgspec

from shared.protocol.token_ids import MAX_VOCAB_SIZE, pack_token_ids, unpack_token_ids

BLOCK_IDS = 1024
_HASH_BYTES = 8


class Difference(msgspec.Struct, frozen=True, array_like=True):
    """The first place where two vocabularies differ, as the verifier sees it."""

    block: int | None  # number of the block of ids; None: only the special ids differ
    token_bytes: tuple[bytes, ...] = ()  # of the ids in that block
    special_ids: bytes = b""  # packed


def fingerprint(token_bytes: Sequence[bytes], special_ids: frozenset[int]) -> bytes:
    """8 bytes for the special ids, then 8 for each block of ids."""
    specials = ",".join(str(token_id) for token_id in sorted(special_ids)).encode()
    size = _unpadded_size(token_bytes)
    blocks = (
        token_bytes[start : min(start + BLOCK_IDS, size)] for start in range(0, size, BLOCK_IDS)
    )
    return _hash(specials) + b"".join(_hash(_serialise(block)) for block in blocks)


def first_difference(
    ours: bytes, theirs: bytes, token_bytes: Sequence[bytes], special_ids: frozenset[int]
) -> Difference | None:
    """Where two fingerprints differ, described by our vocabulary; None when they are equal."""
    if ours == theirs:
        return None
    our_blocks, their_blocks = _blocks(ours), _blocks(theirs)
    for i in range(max(len(our_blocks), len(their_blocks))):
        if our_blocks[i : i + 1] != their_blocks[i : i + 1]:
            start = i * BLOCK_IDS
            end = min(start + BLOCK_IDS, _unpadded_size(token_bytes))
            return Difference(block=i, token_bytes=tuple(token_bytes[start:end]))
    return Difference(block=None, special_ids=pack_token_ids(sorted(special_ids)))


def explain(
    difference: Difference, token_bytes: Sequence[bytes], special_ids: frozenset[int]
) -> str:
    """The other side's difference against our vocabulary: names the first id and both meanings."""
    if difference.block is None:
        their_ids = frozenset(unpack_token_ids(difference.special_ids, MAX_VOCAB_SIZE).tolist())
        differing = special_ids ^ their_ids
        if not differing:
            return "the special token ids differ"
        first = min(differing)
        ours, theirs = (
            "special" if first in ids else "ordinary" for ids in (special_ids, their_ids)
        )
        return f"token id {first} is {ours} here and {theirs} there"
    start = difference.block * BLOCK_IDS
    block = token_bytes[start : start + BLOCK_IDS]
    for i in range(BLOCK_IDS):
        ours_bytes = block[i] if i < len(block) else b""
        theirs_bytes = difference.token_bytes[i] if i < len(difference.token_bytes) else b""
        if ours_bytes != theirs_bytes:
            return f"token id {start + i} is {ours_bytes!r} here and {theirs_bytes!r} there"
    return f"token ids from {start} on differ"


def _blocks(packed: bytes) -> list[bytes]:
    return [packed[i : i + _HASH_BYTES] for i in range(_HASH_BYTES, len(packed), _HASH_BYTES)]


def _serialise(block: Sequence[bytes]) -> bytes:
    packed: bytes = msgpack.packb(list(block))
    return packed


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_HASH_BYTES).digest()


def _unpadded_size(token_bytes: Sequence[bytes]) -> int:
    size = len(token_bytes)
    while size and not token_bytes[size - 1]:
        size -= 1
    return size
