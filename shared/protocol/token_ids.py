"""Token ids as little-endian bytes, 2 or 3 for each, and sets of ids as ranges.

An even number of bytes holds narrow ids; wide ones are padded to an odd number. Where each id has a
byte that rates it, a number of bytes that 3 divides holds narrow ids. This module must never import
numpy: a board without a model does without it.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Collection, Sequence
from itertools import pairwise

from shared.errors import RemoteProtocolError

_NARROW, _WIDE = 2, 3  # bytes per id; 3 hold every vocabulary up to 16.7 million
_WORD = array("I").itemsize
_RATED_NARROW, _RATED_WIDE = _NARROW + 1, _WIDE + 1  # with a byte that rates it
MAX_ID_BYTES = _WIDE
MAX_VOCAB_SIZE = 1 << 24
_PADDING = b"\0"
_FEW = 16  # ids that are read at once
_NARROW_IDS = [struct.Struct(f"<{num_ids}H") for num_ids in range(_FEW + 1)]


def pack_token_ids(token_ids: Sequence[int]) -> bytes:
    """The ids as bytes; 2 bytes each when all are below 65,536, else 3.

    Of 100,000 ids an `array("I")` takes some 1 ms, a list 5 ms.
    """
    num_ids = len(token_ids)
    if num_ids <= _FEW and max(token_ids, default=0) < 1 << 16:
        return _NARROW_IDS[num_ids].pack(*token_ids)
    words = _words(token_ids)
    is_narrow = words[_NARROW::_WORD].count(0) == words[_WIDE::_WORD].count(0) == num_ids
    width = _NARROW if is_narrow else _WIDE
    packed = bytearray(width * num_ids)
    for place in range(width):
        packed[place::width] = words[place::_WORD]
    return bytes(packed) if is_narrow or len(packed) % 2 else bytes(packed) + _PADDING


def _words(token_ids: Sequence[int]) -> bytes:
    """The ids in 4 little-endian bytes each."""
    if isinstance(token_ids, array) and token_ids.typecode == "I":
        words: array[int] = token_ids
    else:
        words = array("I", token_ids)
    if sys.byteorder == "big":
        words = words[:]
        words.byteswap()
    return words.tobytes()


def count_token_ids(packed: bytes) -> int:
    """How many ids are packed, if they are well formed."""
    return len(packed) // (_WIDE if len(packed) % 2 else _NARROW)


def unpack_token_list(packed: bytes, vocab_size: int) -> list[int]:
    """The ids as a list; mostly they are few. Raises like `unpack_token_ids`."""
    num_ids = len(packed) // _NARROW
    if num_ids <= _FEW and not len(packed) % _NARROW:
        token_ids = list(_NARROW_IDS[num_ids].unpack(packed))
        if max(token_ids, default=-1) < vocab_size:
            return token_ids
    return unpack_token_ids(packed, vocab_size).tolist()


def unpack_token_ids(packed: bytes, vocab_size: int) -> array[int]:
    """The ids in 4 bytes each, which cost a loop that hands them on next to nothing.

    Raises:
        RemoteProtocolError: the length fits no number of ids, or an id is outside the vocabulary.
    """
    num_ids = count_token_ids(packed)
    width = _WIDE if len(packed) % 2 else _NARROW
    padding = packed[num_ids * width :]
    if padding not in (b"", _PADDING) or (packed and not num_ids):
        raise RemoteProtocolError(f"token ids of {len(packed)} bytes are malformed")
    words = bytearray(_WORD * num_ids)
    for place in range(width):
        words[place::_WORD] = packed[place : num_ids * width : width]
    token_ids = array("I", bytes(words))
    if sys.byteorder == "big":
        token_ids.byteswap()
    if vocab_size < 1 << 8 * width:  # to look at 100,000 takes 5 ms
        largest = max(token_ids, default=-1)
        if largest >= vocab_size:
            raise RemoteProtocolError(
                f"token id {largest} is outside the vocabulary of {vocab_size}"
            )
    return token_ids


def pack_rated_ids(token_ids: Sequence[int], ratings: bytes) -> bytes:
    """Ids, then a byte for each: 3 bytes each when all ids are below 65,536, else 4.

    Wide ones whose number of bytes would be one of narrow ids are padded.
    """
    assert len(token_ids) == len(ratings), f"{len(ratings)} ratings of {len(token_ids)} ids"
    num_ids = len(token_ids)
    if max(token_ids, default=0) < 1 << 16:
        return _narrow(num_ids).pack(*token_ids) + ratings
    ids = b"".join([token_id.to_bytes(_WIDE, "little") for token_id in token_ids])
    return ids + ratings + (b"" if num_ids % _RATED_NARROW else _PADDING)


def count_rated_ids(packed: bytes) -> int:
    """How many ids with a byte are packed, if they are well formed."""
    num_bytes = len(packed)
    return num_bytes // (_RATED_NARROW if num_bytes % _RATED_NARROW == 0 else _RATED_WIDE)


def unpack_rated_ids(packed: bytes, vocab_size: int) -> tuple[list[int], bytes]:
    """The ids and their bytes.

    Raises:
        RemoteProtocolError: the length fits no number of them, or an id is outside the vocabulary.
    """
    num_ids = count_rated_ids(packed)
    if len(packed) % _RATED_NARROW == 0:
        token_ids = list(_narrow(num_ids).unpack(packed[: num_ids * _NARROW]))
        ratings = packed[num_ids * _NARROW :]
    else:
        padding = b"" if num_ids % _RATED_NARROW else _PADDING
        is_whole = num_ids and len(packed) == num_ids * _RATED_WIDE + len(padding)
        if not is_whole or not packed.endswith(padding):
            raise RemoteProtocolError(f"rated token ids of {len(packed)} bytes are malformed")
        ids = range(0, num_ids * _WIDE, _WIDE)
        token_ids = [int.from_bytes(packed[i : i + _WIDE], "little") for i in ids]
        ratings = packed[num_ids * _WIDE : num_ids * _RATED_WIDE]
    largest = max(token_ids, default=-1)
    if largest >= vocab_size:
        raise RemoteProtocolError(f"token id {largest} is outside the vocabulary of {vocab_size}")
    return token_ids, ratings


def _narrow(num_ids: int) -> struct.Struct:
    return _NARROW_IDS[num_ids] if num_ids <= _FEW else struct.Struct(f"<{num_ids}H")


def pack_id_set(token_ids: Collection[int]) -> bytes:
    """A set of ids as the first and the last one of every unbroken range."""
    ends: list[int] = []
    for token_id in sorted(token_ids):
        if ends and token_id == ends[-1] + 1:
            ends[-1] = token_id
        else:
            ends += (token_id, token_id)
    return pack_token_ids(ends)


def unpack_id_set(packed: bytes, vocab_size: int) -> frozenset[int]:
    """The set that was packed, without ids from `vocab_size` on.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    ends = unpack_token_ids(packed, MAX_VOCAB_SIZE)
    if len(ends) % 2 or any(end > following for end, following in pairwise(ends)):
        raise RemoteProtocolError(f"ranges of token ids of {len(packed)} bytes are malformed")
    return frozenset(
        token_id
        for first, last in zip(ends[::2], ends[1::2], strict=True)
        for token_id in range(first, min(last + 1, vocab_size))
    )
