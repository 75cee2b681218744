"""Numbers of many items as one array of bytes, and back, with every value checked.

Pure. This module must never know what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import RemoteProtocolError

Runs = list[int]  # first block and number of blocks, again and again


def packed(numbers: Sequence[int], dtype: str) -> bytes:
    """The numbers as one array of this type."""
    return np.array(numbers, dtype=dtype).tobytes()


def unpacked(content: bytes, dtype: str, name: str, count: int | None = None) -> NDArray[Any]:
    """The array; with a count, it has just so many numbers.

    Raises:
        RemoteProtocolError: its length does not fit.
    """
    size = np.dtype(dtype).itemsize
    if len(content) % size or (count is not None and len(content) != count * size):
        raise RemoteProtocolError(f"{name} of {len(content)} bytes do not fit")
    return np.frombuffer(content, dtype)


def cut(content: Sequence[int], counts: Iterable[int], name: str) -> list[tuple[int, ...]]:
    """A list in parts of these lengths, which must come out even.

    Raises:
        RemoteProtocolError: they do not.
    """
    parts, start = [], 0
    for count in counts:
        parts.append(tuple(content[start : start + count]))
        start += count
    if start != len(content):
        raise RemoteProtocolError(f"{len(content)} {name} do not fit {start}")
    return parts


def runs_of(blocks: tuple[int, ...]) -> Runs:
    """A table of blocks as runs of neighbours; most are a single one."""
    if not blocks:
        return []
    if blocks == tuple(range(blocks[0], blocks[0] + len(blocks))):
        return [blocks[0], len(blocks)]
    runs: Runs = []
    for block in blocks:
        if runs and block == runs[-2] + runs[-1]:
            runs[-1] += 1
        else:
            runs += (block, 1)
    return runs


def blocks_of(runs: Sequence[int], num_blocks: int) -> tuple[int, ...]:
    """The table that these runs are, of a cache with so many blocks.

    Raises:
        RemoteProtocolError: a block lies outside of it.
    """
    table: tuple[int, ...] = ()
    for first, count in zip(runs[::2], runs[1::2], strict=True):
        if first + count > num_blocks or len(table) + count > num_blocks:
            raise RemoteProtocolError(f"a table names block {first + count} of {num_blocks}")
        table += tuple(range(first, first + count))
    return table
