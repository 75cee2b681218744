"""A short proof that two ends mean the same tokens by the same ids.

One 8-byte hash for each block of 1,024 ids over their bytes. Padding at the end of a vocabulary
(ids without bytes) is left out, because converters pad differently, and so is which ids are
special: formats disagree about that where every byte is equal, so the verifier's word counts.
Where one side alone has an id, a board takes the verifier's word block by block (`reconciled`) and
greets again, so that in the end both prove the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import msgpack
import msgspec

from shared.protocol.token_ids import MAX_VOCAB_SIZE

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
    pairs = list(enumerate(_pairs(difference, token_bytes), start))
    contradictions = [pair for pair in pairs if _contradicts(*pair[1])]
    one_sided = [pair for pair in pairs if pair[1][0] != pair[1][1]]
    for token_id, (ours_bytes, theirs_bytes) in contradictions or one_sided:
        return f"token id {token_id} is {ours_bytes!r} here and {theirs_bytes!r} there"
    return f"token ids from {start} on differ"


def reconciled(
    difference: Difference, token_bytes: Sequence[bytes], own: Sequence[bytes]
) -> tuple[bytes, ...] | None:
    """A vocabulary with the other side's block in it, if no id of our `own` means something else.

    Ids that one side alone has become what they are there; beyond the end of the other side's
    vocabulary, which a block that is not full tells, none are left. None: an id has two meanings,
    or nothing would change.
    """
    start = difference.block * BLOCK_IDS
    is_possible = 0 <= start < MAX_VOCAB_SIZE and len(difference.token_bytes) <= BLOCK_IDS
    pairs = _pairs(difference, own) if is_possible else ()
    if not is_possible or any(_contradicts(*pair) for pair in pairs):
        return None
    padding = (b"",) * (start - len(token_bytes))
    is_last = len(difference.token_bytes) < BLOCK_IDS
    rest = () if is_last else token_bytes[start + BLOCK_IDS :]
    whole = (*token_bytes[:start], *padding, *difference.token_bytes, *rest)
    return None if _unpadded(whole) == _unpadded(token_bytes) else whole


def _pairs(difference: Difference, token_bytes: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """What each id of the block is here and there; b"": it is not."""
    start = difference.block * BLOCK_IDS
    block = token_bytes[start : start + BLOCK_IDS]
    pairs = zip_longest(block, difference.token_bytes[:BLOCK_IDS], fillvalue=b"")
    return ((ours, theirs) for ours, theirs in pairs)


def _contradicts(ours: bytes, theirs: bytes) -> bool:
    return bool(ours and theirs and ours != theirs)


def _blocks(packed: bytes) -> list[bytes]:
    return [packed[i : i + _HASH_BYTES] for i in range(0, len(packed), _HASH_BYTES)]


def _hash(block: Sequence[bytes]) -> bytes:
    return hashlib.blake2b(msgpack.packb(list(block)), digest_size=_HASH_BYTES).digest()


def _unpadded(token_bytes: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(token_bytes[: _unpadded_size(token_bytes)])


def _unpadded_size(token_bytes: Sequence[bytes]) -> int:
    size = len(token_bytes)
    while size and not token_bytes[size - 1]:
        size -= 1
    return size
