"""Where the tokens of a round are, as the attention kernel on a GPU reads it: plain integers.

The work of a round is cut into *tiles* (query rows of one stream) and each tile's keys into
*parts*, so that few long streams keep as many cores busy as many short ones.  A part writes the
output itself where it is a tile's only one; else the parts of a tile are combined afterwards.

This module must never know what a kernel does with the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from verifier.attention_heads import HeadShape
from verifier.target import RoundItem

# Keys that one step of the kernel reads; parts are whole steps.
STEP_KEYS = 64
# Fewer keys than these are not worth a part of their own: combining costs a write and a read.
_SMALLEST_PART_KEYS = 256
# Programs for each core of the GPU; more make the last wave of them shorter.
_PROGRAMS_PER_CORE = 4

# Columns of `work`, one row for each part.
WORK_COLUMNS = (
    "first_token",  # of the stream, in the packed row of the round
    "num_tokens",  # of the stream
    "first_row",  # of the tile, among the stream's query rows (token, member of the group)
    "context_tokens",  # cached and new tokens of the stream
    "first_key",
    "end_key",
    "stream",  # row of `block_tables`
    "part",  # where the partial result goes; -1: this is the whole tile
)
# Columns of `tiles`, one row for each tile of several parts.
TILE_COLUMNS = ("first_token", "num_tokens", "first_row", "first_part", "end_part")


@dataclass(frozen=True, slots=True)
class PagedWork:
    """The tiles of a round for layers of one kind."""

    work: Tensor  # [num_parts, len(WORK_COLUMNS)] int32
    tiles: Tensor  # [num_tiles, len(TILE_COLUMNS)] int32
    num_partials: int

    def to(self, device: torch.device) -> PagedWork:
        """The same on another device."""
        return PagedWork(self.work.to(device), self.tiles.to(device), self.num_partials)


@dataclass(frozen=True, slots=True)
class PagedLayout:
    """One round; the same in all layers, save for windows.  Made on the CPU."""

    heads: HeadShape
    slots: Tensor  # [num_tokens] int64: where the new keys and values go
    block_tables: Tensor  # [num_streams, most blocks] int32
    block_tokens: int
    rows_per_tile: int
    works: Mapping[int | None, PagedWork]  # by window; None: no window

    @property
    def windows(self) -> frozenset[int | None]:
        """The windows that layers may have in this round."""
        return frozenset(self.works)

    @classmethod
    def of(
        cls,
        items: Sequence[RoundItem],
        block_tokens: int,
        heads: HeadShape,
        windows: Sequence[int | None],
        num_cores: int,
    ) -> PagedLayout:
        """Lay a round out for a GPU of `num_cores` multiprocessors."""
        tables = np.zeros((len(items), max(len(item.block_table) for item in items)), np.int32)
        for i, item in enumerate(items):
            tables[i, : len(item.block_table)] = item.block_table
        rows_per_tile = _rows_per_tile(items, heads)
        return cls(
            heads=heads,
            slots=torch.from_numpy(_new_slots(items, tables, block_tokens)),
            block_tables=torch.from_numpy(tables),
            block_tokens=block_tokens,
            rows_per_tile=rows_per_tile,
            works={
                window: _work(items, heads, rows_per_tile, window, num_cores) for window in windows
            },
        )

    def to(self, device: torch.device) -> PagedLayout:
        """The same on the device whose kernel is to read it."""
        return replace(
            self,
            slots=self.slots.to(device),
            block_tables=self.block_tables.to(device),
            works={window: work.to(device) for window, work in self.works.items()},
        )


def _rows_per_tile(items: Sequence[RoundItem], heads: HeadShape) -> int:
    """A power of two from 16, the least that a tensor core takes, to 64."""
    most = max(len(item.token_ids) for item in items) * heads.num_members
    return min(max(16, 1 << (most - 1).bit_length()), 64)


def _new_slots(
    items: Sequence[RoundItem], tables: NDArray[np.int32], block_tokens: int
) -> NDArray[np.int64]:
    counts = [len(item.token_ids) for item in items]
    streams = np.repeat(np.arange(len(items)), counts)
    positions = np.concatenate(
        [np.arange(item.num_cached_tokens, item.context_tokens) for item in items]
    )
    blocks = tables[streams, positions // block_tokens].astype(np.int64)
    slots: NDArray[np.int64] = blocks * block_tokens + positions % block_tokens
    return slots


def _work(
    items: Sequence[RoundItem],
    heads: HeadShape,
    rows_per_tile: int,
    window: int | None,
    num_cores: int,
) -> PagedWork:
    spans = _tile_spans(items, heads, rows_per_tile, window)
    num_steps = sum(end - start for *_, start, end in spans)
    num_parts_wanted = _PROGRAMS_PER_CORE * num_cores / heads.num_kv_heads
    steps_per_part = max(num_steps / num_parts_wanted, _SMALLEST_PART_KEYS // STEP_KEYS)
    work: list[tuple[int, ...]] = []
    tiles: list[tuple[int, ...]] = []
    num_partials = 0
    for first_token, num_tokens, first_row, context, stream, start, end in spans:
        num_parts = max(round((end - start) / steps_per_part), 1)
        bounds = [start + (end - start) * i // num_parts for i in range(num_parts + 1)]
        for i in range(num_parts):
            part = num_partials + i if num_parts > 1 else -1
            keys = bounds[i] * STEP_KEYS, bounds[i + 1] * STEP_KEYS
            work.append((first_token, num_tokens, first_row, context, *keys, stream, part))
        if num_parts > 1:
            parts = num_partials, num_partials + num_parts
            tiles.append((first_token, num_tokens, first_row, *parts))
            num_partials += num_parts
    return PagedWork(
        work=_table(work, len(WORK_COLUMNS)),
        tiles=_table(tiles, len(TILE_COLUMNS)),
        num_partials=num_partials,
    )


def _tile_spans(
    items: Sequence[RoundItem], heads: HeadShape, rows_per_tile: int, window: int | None
) -> list[tuple[int, int, int, int, int, int, int]]:
    """First token, tokens, first row, context, stream, and the first and end step of its keys."""
    spans = []
    first_token = 0
    for stream, item in enumerate(items):
        num_tokens, context = len(item.token_ids), item.context_tokens
        for first_row in range(0, num_tokens * heads.num_members, rows_per_tile):
            first_query = item.num_cached_tokens + first_row // heads.num_members
            last_row = min(first_row + rows_per_tile, num_tokens * heads.num_members) - 1
            end_key = item.num_cached_tokens + last_row // heads.num_members + 1
            first_key = 0 if window is None else max(0, first_query - window + 1)
            steps = first_key // STEP_KEYS, -(-end_key // STEP_KEYS)
            spans.append((first_token, num_tokens, first_row, context, stream, *steps))
        first_token += num_tokens
    return spans


def _table(rows: list[tuple[int, ...]], num_columns: int) -> Tensor:
    array = np.asarray(rows, dtype=np.int32).reshape(-1, num_columns)
    return torch.from_numpy(array)
