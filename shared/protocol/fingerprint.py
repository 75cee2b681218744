"""A short proof that two ends mean the same tokens by the same ids.

One 8-byte hash for each block of 1,024 ids over their bytes. Padding at the end of a vocabulary
(ids without bytes) is left out, because converters pad differently, and so is which ids are
special: formats disagree about that where every byte is equal, so the verifier's word counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgpack
import msgspec

BLOCK_IDS = 1024
_HASH_BYTES = 8


class Difference(msgspec.Struct, frozen=True, array_like=True):
    """The first block of ids in which two vocabularies differ, as the verifier sees it."""

    block: int
    token_bytes: tuple[bytes, ...] = ()  # of the ids in that block


def fingerprint(token_bytes: Sequence[bytes]) -> bytes:
    """8 bytes for each block of ids."""
    size = _unpadded_size(token_bytes)
    blocks = (
        token_bytes[start : min(start + BLOCK_IDS, size)] for start in range(0, size, BLOCK_IDS)
    )
    return b"".join(_hash(block) for block in blocks)


def first_difference(ours: bytes, theirs: bytes, token_bytes: Sequence[bytes]) -> Difference | None:
    """Where two fingerprints differ, described by our vocabulary; None when they are equal."""
    if ours == theirs:
        return None
    our_blocks, their_blocks = _blocks(ours), _blocks(theirs)
    both = max(len(our_blocks), len(their_blocks))
    block = next(i for i in range(both) if our_blocks[i : i + 1] != their_blocks[i : i + 1])
    start = block * BLOCK_IDS
    end = min(start + BLOCK_IDS, _unpadded_size(token_bytes))
    return Difference(block, tuple(token_bytes[start:end]))


def explain(difference: Difference, token_bytes: Sequence[bytes]) -> str:
    """The other side's difference against our vocabulary: names the first id and both meanings."""
    start = difference.block * BLOCK_IDS
    block = token_bytes[start : start + BLOCK_IDS]
    for i in range(BLOCK_IDS):
        ours_bytes = block[i] if i < len(block) else b""
        theirs_bytes = difference.token_bytes[i] if i < len(difference.token_bytes) else b""
        if ours_bytes != theirs_bytes:
            return f"token id {start + i} is {ours_bytes!r} here and {theirs_bytes!r} there"
    return f"token ids from {start} on differ"


def _blocks(packed: bytes) -> list[bytes]:
    return [packed[i : i + _HASH_BYTES] for i in range(0, len(packed), _HASH_BYTES)]


def _hash(block: Sequence[bytes]) -> bytes:
    return hashlib.blake2b(msgpack.packb(list(block)), digest_size=_HASH_BYTES).digest()


def _unpadded_size(token_bytes: Sequence[bytes]) -> int:
    size = len(token_bytes)
    while size and not token_bytes[size - 1]:
        size -= 1
    return size
