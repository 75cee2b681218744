"""Where the tokens of a round are, as the attention kernel on a GPU reads it: plain integers.

The work of a round is cut into *tiles* (query rows of one stream) and each tile's keys into
*parts*, so that few long streams keep as many cores busy as many short ones. A part writes the
output itself where it is a tile's only one; else the parts of a tile are combined afterwards.

This module must never know what a kernel does with the numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from verifier.target.round import RoundItem
from verifier.torch_target.kernels.head_shape import HeadShape

_MOST_ROWS = 64  # of a tile
# Steps of a part where cuts must not depend on the batch.
_FIXED_STEPS = 8


@dataclass(frozen=True, slots=True)
class CutRule:
    """How keys are cut for tiles of some number of rows."""

    step_keys: int  # that one step of the kernel reads; parts are whole steps
    # Programs for each core of the GPU: where there are fewer tiles than cores, short parts hide
    # the time that a step takes; else a cut only pays for streams far longer than the others.
    many_programs: int
    few_programs: int


# By rows of a tile. Fastest on an H100 with heads of 128 (`cuda_round`): microseconds of 8 × 4 and
# 32 × 4 tokens at context 1,024 with 4 query heads for each key 19.2 and 54.1 (steps of 32: 19.8,
# 63.8); of 16 × 6 and 4 × 9 with 5 of them 36.5 and 15.3 (steps of 64 and more parts: 42.7, 22.0).
_FEW_ROWS_RULE = CutRule(step_keys=64, many_programs=3, few_programs=1)
_MANY_ROWS_RULE = CutRule(step_keys=32, many_programs=2, few_programs=1)
_FIXED_RULE = CutRule(step_keys=64, many_programs=0, few_programs=0)  # whatever the batch is
FEW_ROWS = 16  # the least that a tensor core takes


class WorkColumns(NamedTuple):
    """Columns of `work`, one row for each part."""

    first_token: NDArray[np.int64]  # of the stream, in the packed row of the round
    num_tokens: NDArray[np.int64]  # of the stream
    first_row: NDArray[np.int64]  # of the tile, among the stream's rows (token, member of group)
    context_tokens: NDArray[np.int64]  # cached and new tokens of the stream
    first_key: NDArray[np.int64]
    end_key: NDArray[np.int64]
    stream: NDArray[np.int64]  # row of `block_tables`
    part: NDArray[np.int64]  # where the partial result goes; -1: this is the whole tile


class TileColumns(NamedTuple):
    """Columns of `tiles`, one row for each tile of several parts."""

    first_token: NDArray[np.int64]
    num_tokens: NDArray[np.int64]
    first_row: NDArray[np.int64]
    first_part: NDArray[np.int64]
    end_part: NDArray[np.int64]


# A kernel asks for a column by its name.
WORK_COLUMNS, TILE_COLUMNS = WorkColumns._fields, TileColumns._fields


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
    """One round; the same in all layers, save for windows. Made on the CPU."""

    heads: HeadShape
    slots: Tensor  # [num_tokens] int64: where the new keys and values go
    block_tables: Tensor  # [num_streams, most blocks] int32
    block_tokens: int
    most_tokens: int  # of a stream in this round
    rows_per_tile: int
    step_keys: int
    works: Mapping[int | None, PagedWork]  # by window; None: no window

    @property
    def windows(self) -> frozenset[int | None]:
        """The windows that layers may have in this round."""
        return frozenset(self.works)

    @classmethod
    def of(
        cls,
        items: Sequence[RoundItem],
        positions: NDArray[np.int64],
        block_tokens: int,
        heads: HeadShape,
        windows: Sequence[int | None],
        num_cores: int | None,
    ) -> PagedLayout:
        """Lay a round, with its `positions_of`, out for a GPU of `num_cores` multiprocessors.

        None cuts at fixed keys, so that what a row sees is summed in the same order in any round.
        """
        tables = _block_tables(items)
        num_tokens = np.array([len(item.token_ids) for item in items])
        contexts = np.array([item.num_cached_tokens for item in items]) + num_tokens
        streams = np.repeat(np.arange(len(items)), num_tokens)
        blocks = tables[streams, positions // block_tokens].astype(np.int64)
        most_tokens = int(num_tokens.max())
        rows_per_tile, rule = _MOST_ROWS, _FIXED_RULE
        if num_cores is not None:
            rows_per_tile = _rows_per_tile(most_tokens * heads.num_members)
            rule = _FEW_ROWS_RULE if rows_per_tile <= FEW_ROWS else _MANY_ROWS_RULE
        return cls(
            heads=heads,
            slots=torch.from_numpy(blocks * block_tokens + positions % block_tokens),
            block_tables=torch.from_numpy(tables),
            block_tokens=block_tokens,
            most_tokens=most_tokens,
            rows_per_tile=rows_per_tile,
            step_keys=rule.step_keys,
            works={
                window: _work(
                    _Tiles.of(num_tokens, contexts, heads, rows_per_tile, window, rule.step_keys),
                    heads,
                    rule,
                    num_cores,
                )
                for window in windows
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


def positions_of(items: Sequence[RoundItem]) -> NDArray[np.int64]:
    """The position in its stream of every token of a round [num_tokens]."""
    counts = np.array([len(item.token_ids) for item in items])
    offsets = np.array([item.num_cached_tokens for item in items]) - (np.cumsum(counts) - counts)
    positions: NDArray[np.int64] = np.arange(counts.sum()) + np.repeat(offsets, counts)
    return positions


def _rows_per_tile(most_rows: int) -> int:
    """A power of two."""
    return min(max(FEW_ROWS, 1 << (most_rows - 1).bit_length()), _MOST_ROWS)


def _block_tables(items: Sequence[RoundItem]) -> NDArray[np.int32]:
    lengths = np.array([len(item.block_table) for item in items])
    tables = np.zeros((len(items), lengths.max()), np.int32)
    is_block = np.arange(lengths.max()) < lengths[:, None]
    tables[is_block] = np.concatenate([_block_array(item.block_table) for item in items])
    return tables


@functools.lru_cache(maxsize=4096)
def _block_array(block_table: tuple[int, ...]) -> NDArray[np.int32]:
    """A stream's table stays the same for a block's worth of tokens."""
    return np.array(block_table, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Columns of one entry for each tile."""

    stream: NDArray[np.int64]
    first_token: NDArray[np.int64]
    num_tokens: NDArray[np.int64]
    first_row: NDArray[np.int64]
    context_tokens: NDArray[np.int64]
    first_step: NDArray[np.int64]  # of the keys that any of its rows sees
    end_step: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        num_tokens: NDArray[np.int64],
        contexts: NDArray[np.int64],
        heads: HeadShape,
        rows_per_tile: int,
        window: int | None,
        step_keys: int,
    ) -> _Tiles:
        num_rows = num_tokens * heads.num_members
        counts = -(-num_rows // rows_per_tile)
        stream = np.repeat(np.arange(len(counts)), counts)
        first_tile = np.cumsum(counts) - counts
        first_row = (np.arange(counts.sum()) - first_tile[stream]) * rows_per_tile
        last_row = np.minimum(first_row + rows_per_tile, num_rows[stream]) - 1
        num_cached = (contexts - num_tokens)[stream]
        first_key = np.zeros_like(first_row)
        if window is not None:
            first_key = np.maximum(num_cached + first_row // heads.num_members - window + 1, 0)
        end_key = num_cached + last_row // heads.num_members + 1
        return cls(
            stream=stream,
            first_token=(np.cumsum(num_tokens) - num_tokens)[stream],
            num_tokens=num_tokens[stream],
            first_row=first_row,
            context_tokens=contexts[stream],
            first_step=first_key // step_keys,
            end_step=-(-end_key // step_keys),
        )


def _work(tiles: _Tiles, heads: HeadShape, rule: CutRule, num_cores: int | None) -> PagedWork:
    num_parts = _num_parts(tiles, heads, rule, num_cores)
    tile = np.repeat(np.arange(len(num_parts)), num_parts)
    number = np.arange(len(tile)) - (np.cumsum(num_parts) - num_parts)[tile]
    first, end, parts = tiles.first_step[tile], tiles.end_step[tile], num_parts[tile]
    if num_cores is None:
        cut = (first // _FIXED_STEPS + number) * _FIXED_STEPS
        first_step, end_step = np.maximum(cut, first), np.minimum(cut + _FIXED_STEPS, end)
    else:
        first_step = first + (end - first) * number // parts
        end_step = first + (end - first) * (number + 1) // parts
    is_cut = num_parts > 1
    num_partials = np.where(is_cut, num_parts, 0)
    first_partial = np.cumsum(num_partials) - num_partials
    work = WorkColumns(
        first_token=tiles.first_token[tile],
        num_tokens=tiles.num_tokens[tile],
        first_row=tiles.first_row[tile],
        context_tokens=tiles.context_tokens[tile],
        first_key=first_step * rule.step_keys,
        end_key=end_step * rule.step_keys,
        stream=tiles.stream[tile],
        part=np.where(is_cut[tile], first_partial[tile] + number, -1),
    )
    combined = TileColumns(
        first_token=tiles.first_token,
        num_tokens=tiles.num_tokens,
        first_row=tiles.first_row,
        first_part=first_partial,
        end_part=first_partial + num_partials,
    )
    return PagedWork(
        work=_table(work),
        tiles=_table([column[is_cut] for column in combined]),
        num_partials=int(num_partials.sum()),
    )


def _num_parts(
    tiles: _Tiles, heads: HeadShape, rule: CutRule, num_cores: int | None
) -> NDArray[np.int64]:
    """Into how many parts the keys of each tile are cut: parts of about the same length."""
    if num_cores is None:
        return -(-tiles.end_step // _FIXED_STEPS) - tiles.first_step // _FIXED_STEPS
    num_steps = tiles.end_step - tiles.first_step
    fills_cores = len(num_steps) * heads.num_kv_heads >= num_cores
    programs = num_cores * (rule.few_programs if fills_cores else rule.many_programs)
    steps_per_part = max(num_steps.sum() * heads.num_kv_heads / programs, 1)
    num_parts: NDArray[np.int64] = np.rint(num_steps / steps_per_part).astype(np.int64)
    return num_parts.clip(min=1)


def _table(columns: Sequence[NDArray[np.int64]]) -> Tensor:
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.int32))
