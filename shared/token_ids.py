"""Token ids as little-endian bytes: one width byte (2 or 3), then the ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.errors import RemoteProtocolError

_NARROW, _WIDE = 2, 3  # bytes per id; 3 hold every vocabulary up to 16.7 million


def pack_token_ids(token_ids: Sequence[int] | NDArray[np.uint32]) -> bytes:
    """The ids as bytes; 2 bytes each when all are below 65,536, else 3."""
    ids = np.asarray(token_ids, dtype=np.uint32)
    if not len(ids):
        return b""
    if int(ids.max()) < 1 << 16:
        return bytes([_NARROW]) + ids.astype("<u2").tobytes()
    return bytes([_WIDE]) + ids.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def unpack_token_ids(packed: bytes, vocab_size: int) -> NDArray[np.uint32]:
    """The ids [n] as uint32.

    Raises:
        RemoteProtocolError: the length fits no number of ids, or an id is outside the vocabulary.
    """
    if not packed:
        return np.zeros(0, dtype=np.uint32)
    width, body = packed[0], packed[1:]
    if width not in (_NARROW, _WIDE) or not body or len(body) % width:
        raise RemoteProtocolError(
            f"token ids of {len(body)} bytes with width {width} are malformed"
        )
    if width == _NARROW:
        ids = np.frombuffer(body, dtype="<u2").astype(np.uint32)
    else:
        columns = np.frombuffer(body, dtype=np.uint8).reshape(-1, 3).astype(np.uint32)
        ids = columns[:, 0] | columns[:, 1] << np.uint32(8) | columns[:, 2] << np.uint32(16)
    largest = int(ids.max())
    if largest >= vocab_size:
        raise RemoteProtocolError(f"token id {largest} is outside the vocabulary of {vocab_size}")
    return ids
