"""Token ids as little-endian bytes, 2 or 3 for each, and sets of ids as ranges.

An even number of bytes holds narrow ids; wide ones are padded to an odd number. Where each id has a
byte that rates it, a number of bytes that 3 divides holds narrow ids.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.errors import RemoteProtocolError

_NARROW, _WIDE = 2, 3  # bytes per id; 3 hold every vocabulary up to 16.7 million
_RATED_NARROW, _RATED_WIDE = _NARROW + 1, _WIDE + 1  # with a byte that rates it
MAX_ID_BYTES = _WIDE
MAX_VOCAB_SIZE = 1 << 24
_PADDING = b"\0"
_FEW = 16  # ids that numpy is slower for


def pack_token_ids(token_ids: Sequence[int] | NDArray[np.uint32]) -> bytes:
    """The ids as bytes; 2 bytes each when all are below 65,536, else 3."""
    is_short = len(token_ids) <= _FEW and not isinstance(token_ids, np.ndarray)
    if is_short and max(token_ids, default=0) < 1 << 16:
        return struct.pack(f"<{len(token_ids)}H", *token_ids)
    ids = np.asarray(token_ids, dtype=np.uint32)
    if not len(ids):
        return b""
    if int(ids.max()) < 1 << 16:
        return ids.astype("<u2").tobytes()
    packed = ids.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return packed if len(packed) % 2 else packed + _PADDING


def count_token_ids(packed: bytes) -> int:
    """How many ids are packed, if they are well formed."""
    return len(packed) // (_WIDE if len(packed) % 2 else _NARROW)


def unpack_token_list(packed: bytes, vocab_size: int) -> list[int]:
    """The ids as a list; mostly they are few. Raises like `unpack_token_ids`."""
    num_ids = len(packed) // _NARROW
    if num_ids <= _FEW and not len(packed) % _NARROW:
        token_ids = list(struct.unpack(f"<{num_ids}H", packed))
        if max(token_ids, default=-1) < vocab_size:
            return token_ids
    unpacked: list[int] = unpack_token_ids(packed, vocab_size).tolist()
    return unpacked


def unpack_token_ids(packed: bytes, vocab_size: int) -> NDArray[np.uint32]:
    """The ids [n] as uint32.

    Raises:
        RemoteProtocolError: the length fits no number of ids, or an id is outside the vocabulary.
    """
    if not packed:
        return np.zeros(0, dtype=np.uint32)
    num_ids = count_token_ids(packed)
    width = _WIDE if len(packed) % 2 else _NARROW
    body, padding = packed[: num_ids * width], packed[num_ids * width :]
    if not num_ids or padding not in (b"", _PADDING):
        raise RemoteProtocolError(f"token ids of {len(packed)} bytes are malformed")
    if width == _NARROW:
        ids = np.frombuffer(body, dtype="<u2").astype(np.uint32)
    else:
        columns = np.frombuffer(body, dtype=np.uint8).reshape(-1, 3).astype(np.uint32)
        ids = columns[:, 0] | columns[:, 1] << np.uint32(8) | columns[:, 2] << np.uint32(16)
    largest = int(ids.max())
    if largest >= vocab_size:
        raise RemoteProtocolError(f"token id {largest} is outside the vocabulary of {vocab_size}")
    return ids


def pack_rated_ids(token_ids: Sequence[int], ratings: bytes) -> bytes:
    """Ids, then a byte for each: 3 bytes each when all ids are below 65,536, else 4.

    Wide ones whose number of bytes would be one of narrow ids are padded.
    """
    assert len(token_ids) == len(ratings), f"{len(ratings)} ratings of {len(token_ids)} ids"
    num_ids = len(token_ids)
    if max(token_ids, default=0) < 1 << 16:
        return struct.pack(f"<{num_ids}H", *token_ids) + ratings
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
        token_ids = list(struct.unpack(f"<{num_ids}H", packed[: num_ids * _NARROW]))
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


def pack_id_set(token_ids: Collection[int]) -> bytes:
    """A set of ids as the first and the last one of every unbroken range."""
    ids = np.array(sorted(token_ids), dtype=np.uint32)
    is_first = np.diff(ids, prepend=np.uint32(MAX_VOCAB_SIZE)) != 1
    is_last = np.roll(is_first, -1)
    return pack_token_ids(np.stack([ids[is_first], ids[is_last]], axis=1).reshape(-1))


def unpack_id_set(packed: bytes, vocab_size: int) -> frozenset[int]:
    """The set that was packed, without ids from `vocab_size` on.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    ends = unpack_token_ids(packed, MAX_VOCAB_SIZE).astype(np.int64)
    if len(ends) % 2 or (np.diff(ends) < 0).any():
        raise RemoteProtocolError(f"ranges of token ids of {len(packed)} bytes are malformed")
    return frozenset(
        token_id
        for first, last in ends.reshape(-1, 2).tolist()
        for token_id in range(first, min(last + 1, vocab_size))
    )
