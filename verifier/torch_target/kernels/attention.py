"""Attention of a ragged round over blocks as one Triton kernel, and a second that combines parts.

A program takes the query rows of one stream that share a key/value head (several tokens times the
members of the group: what a tensor core wants) against one part of the stream's keys, in the
order of `PagedLayout`. This module must never decide how a round is cut.

Source: FlashAttention-2 (Dao 2023) for the running softmax, FlashDecoding for the parts.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from verifier.torch_target.kernels.launch import (
    kernel,
    kernel_for_any,
    launch_options,
    let_next_begin,
    only_wait_for_former,
    wait_for_former,
)
from verifier.torch_target.kernels.paged_layout import (
    FEW_ROWS,
    TILE_COLUMNS,
    WORK_COLUMNS,
    PagedLayout,
)
from verifier.torch_target.kernels.score_rule import ScoreRule

# Of the 227 KiB that a program may have on an H100; queries and scores want the rest.
_PIPELINE_BYTES = 144 * 1024

# Weights are powers of 2, which is what the hardware has.
_LOG2_E = math.log2(math.e)
_LOG2_E_CONSTANT = tl.constexpr(_LOG2_E)

# Parts of a tile that the second kernel reads in one go.
_COMBINED_AT_ONCE = 16

# Where the numbers of a part stand, and those of a tile.
_PART_SIZE = tl.constexpr(len(WORK_COLUMNS))
_PART_FIRST_TOKEN = tl.constexpr(WORK_COLUMNS.index("first_token"))
_PART_NUM_TOKENS = tl.constexpr(WORK_COLUMNS.index("num_tokens"))
_PART_FIRST_ROW = tl.constexpr(WORK_COLUMNS.index("first_row"))
_PART_CONTEXT_TOKENS = tl.constexpr(WORK_COLUMNS.index("context_tokens"))
_PART_FIRST_KEY = tl.constexpr(WORK_COLUMNS.index("first_key"))
_PART_END_KEY = tl.constexpr(WORK_COLUMNS.index("end_key"))
_PART_STREAM = tl.constexpr(WORK_COLUMNS.index("stream"))
_PART_NUMBER = tl.constexpr(WORK_COLUMNS.index("part"))
_TILE_SIZE = tl.constexpr(len(TILE_COLUMNS))
_TILE_FIRST_TOKEN = tl.constexpr(TILE_COLUMNS.index("first_token"))
_TILE_NUM_TOKENS = tl.constexpr(TILE_COLUMNS.index("num_tokens"))
_TILE_FIRST_ROW = tl.constexpr(TILE_COLUMNS.index("first_row"))
_TILE_FIRST_PART = tl.constexpr(TILE_COLUMNS.index("first_part"))
_TILE_END_PART = tl.constexpr(TILE_COLUMNS.index("end_part"))


def paged_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: PagedLayout,
    rule: ScoreRule,
) -> Tensor:
    """Output [num_tokens, num_heads, head_size] of queries [num_heads, num_tokens, head_size].

    `keys` and `values` are all slots of the layer [num_slots, num_kv_heads, head_size]; the new
    ones are stored already.
    """
    num_heads, num_tokens, head_size = query.shape
    work = layout.works[rule.window]
    output = query.new_empty(num_tokens, num_heads, head_size)
    padded_size = triton.next_power_of_2(head_size)
    rows = layout.rows_per_tile
    num_kv_heads = layout.heads.num_kv_heads
    partials = query.new_empty(
        (work.num_partials, num_kv_heads, rows, padded_size + 2), dtype=torch.float32
    )
    shape = {
        "NUM_MEMBERS": layout.heads.num_members,
        "NUM_KV_HEADS": num_kv_heads,
        "HEAD_SIZE": head_size,
        "PADDED_SIZE": padded_size,
        "ROWS": rows,
        "HAS_SINKS": rule.sinks is not None,
    }
    sinks = query if rule.sinks is None else rule.sinks  # some pointer, which is not read then
    _attend[(len(work.work), num_kv_heads)](
        query,
        keys,
        values,
        output,
        partials,
        sinks,
        work.work,
        layout.block_tables,
        layout.block_tables.stride(0),
        query.stride(0),
        query.stride(1),
        rule.scale * _LOG2_E,
        **shape,
        BLOCK_TOKENS=layout.block_tokens,
        STEP=layout.step_keys,
        WINDOW=rule.window or 0,
        LOG2_CAP=(rule.softcap or 0.0) * _LOG2_E,
        PRECISION="ieee" if query.dtype is torch.float32 else "tf32",
        num_warps=4,
        num_stages=_num_stages(layout, padded_size * query.element_size()),
        **launch_options(query.device),
    )
    if work.num_partials:
        _combine[(len(work.tiles), num_kv_heads, rows)](
            partials,
            output,
            sinks,
            work.tiles,
            **shape,
            PARTS=_COMBINED_AT_ONCE,
            num_warps=4,
            **launch_options(query.device),
        )
    return output


def _num_stages(layout: PagedLayout, head_bytes: int) -> int:
    """How many steps of keys and values to have on their way, as shared memory allows.

    Tiles of few rows do best with two: more of their programs then share a core.
    """
    most = 2 if layout.rows_per_tile <= FEW_ROWS else 6
    step_bytes = 2 * layout.step_keys * head_bytes
    return max(1, min(most, _PIPELINE_BYTES // step_bytes))


@kernel_for_any("work", "block_tables", "table_stride")
def _attend(
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    output: tl.tensor,
    partials: tl.tensor,
    sinks: tl.tensor,
    work: tl.tensor,
    block_tables: tl.tensor,
    table_stride: tl.tensor,
    query_head_stride: tl.tensor,
    query_token_stride: tl.tensor,
    log2_scale: tl.tensor,
    NUM_MEMBERS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    PADDED_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    STEP: tl.constexpr,
    WINDOW: tl.constexpr,
    LOG2_CAP: tl.constexpr,
    PRECISION: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    head, mine = tl.program_id(1), work + tl.program_id(0) * _PART_SIZE
    first_token, num_tokens = tl.load(mine + _PART_FIRST_TOKEN), tl.load(mine + _PART_NUM_TOKENS)
    rows = tl.load(mine + _PART_FIRST_ROW) + tl.arange(0, ROWS)
    context_tokens, part = tl.load(mine + _PART_CONTEXT_TOKENS), tl.load(mine + _PART_NUMBER)
    table = block_tables + tl.load(mine + _PART_STREAM).to(tl.int64) * table_stride
    first_key, end_key = tl.load(mine + _PART_FIRST_KEY), tl.load(mine + _PART_END_KEY)
    num_counted = tl.where(part < 0, num_tokens, 0)  # else `_combine` counts the sinks, once
    only_wait_for_former(IS_DEPENDENT)
    token = rows // NUM_MEMBERS
    is_row = token < num_tokens
    query_head = head * NUM_MEMBERS + rows % NUM_MEMBERS
    position = context_tokens - num_tokens + token
    column = tl.arange(0, PADDED_SIZE)
    is_column = column < HEAD_SIZE
    packed_token = (first_token + token).to(tl.int64)
    is_query = is_row[:, None] & is_column[None, :]
    offsets = query_head * query_head_stride + packed_token * query_token_stride
    q = tl.load(query + offsets[:, None] + column[None, :], mask=is_query, other=0.0)
    highest, total = _before_keys(sinks + query_head, token < num_counted, ROWS, HAS_SINKS)
    sums = tl.zeros([ROWS, PADDED_SIZE], tl.float32)
    for start in range(first_key, end_key, STEP):
        key = start + tl.arange(0, STEP)
        is_key = key < context_tokens
        slot = _slots(table, key, is_key, BLOCK_TOKENS)
        key_offsets = (slot * NUM_KV_HEADS + head) * HEAD_SIZE
        is_read = is_key[:, None] & is_column[None, :]
        k = tl.load(keys + key_offsets[:, None] + column[None, :], mask=is_read, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * log2_scale
        scores = _hidden(_capped(scores, LOG2_CAP), key[None, :], position[:, None], WINDOW)
        new_highest = tl.maximum(highest, tl.max(scores, 1))
        shift = tl.where(new_highest == -float("inf"), 0.0, new_highest)
        weights, decay = tl.exp2(scores - shift[:, None]), tl.exp2(highest - shift)
        v = tl.load(values + key_offsets[:, None] + column[None, :], mask=is_read, other=0.0)
        sums = sums * decay[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        total = total * decay + tl.sum(weights, 1)
        highest = new_highest
    let_next_begin(IS_DEPENDENT)
    if part < 0:
        packed = (packed_token * NUM_KV_HEADS * NUM_MEMBERS + query_head) * HEAD_SIZE
        attended = (sums / tl.where(is_row, total, 1.0)[:, None]).to(output.dtype.element_ty)
        tl.store(output + packed[:, None] + column[None, :], attended, mask=is_query)
    else:
        row = (part.to(tl.int64) * NUM_KV_HEADS + head) * ROWS + tl.arange(0, ROWS)
        _store_part(partials + row * (PADDED_SIZE + 2), sums, highest, total, PADDED_SIZE)


@kernel
def _store_part(
    pointers: tl.tensor,
    sums: tl.tensor,
    highest: tl.tensor,
    total: tl.tensor,
    PADDED_SIZE: tl.constexpr,
) -> None:
    """One part's sums, largest score and total weight of each row, for `_combine`."""
    tl.store(pointers[:, None] + tl.arange(0, PADDED_SIZE)[None, :], sums)
    tl.store(pointers + PADDED_SIZE, highest)
    tl.store(pointers + PADDED_SIZE + 1, total)


@kernel
def _before_keys(
    pointers: tl.tensor, is_counted: tl.tensor, ROWS: tl.constexpr, HAS_SINKS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Largest score and total weight of rows that have read no key: those of a sink that counts."""
    highest, total = tl.full([ROWS], -float("inf"), tl.float32), tl.zeros([ROWS], tl.float32)
    if HAS_SINKS:
        highest = _sink_scores(pointers, is_counted)
        total = tl.where(is_counted, 1.0, 0.0)
    return highest, total


@kernel
def _slots(
    table: tl.tensor, key: tl.tensor, is_key: tl.tensor, BLOCK_TOKENS: tl.constexpr
) -> tl.tensor:
    """Where keys are in the cache, by the block table of their stream."""
    block = tl.load(table + key // BLOCK_TOKENS, mask=is_key, other=0).to(tl.int64)
    return block * BLOCK_TOKENS + key % BLOCK_TOKENS


@kernel
def _sink_scores(pointers: tl.tensor, is_wanted: tl.tensor) -> tl.tensor:
    """Scores of attention sinks, to the base of 2 as all scores; -inf where they do not count."""
    sinks = tl.load(pointers, mask=is_wanted, other=-float("inf"))
    return sinks.to(tl.float32) * _LOG2_E_CONSTANT


@kernel
def _capped(scores: tl.tensor, CAP: tl.constexpr) -> tl.tensor:
    """Scores as CAP × tanh(scores / CAP); ±CAP where the exponential is infinite or 0."""
    if CAP > 0:
        scores = CAP * (1.0 - 2.0 / (1.0 + tl.exp(scores * (2.0 / CAP))))
    return scores


@kernel
def _hidden(
    scores: tl.tensor, key: tl.tensor, position: tl.tensor, WINDOW: tl.constexpr
) -> tl.tensor:
    """The scores, -inf where a query does not see the key."""
    is_seen = key <= position
    if WINDOW > 0:
        is_seen = is_seen & (key > position - WINDOW)
    return tl.where(is_seen, scores, -float("inf"))


@kernel_for_any("tiles")
def _combine(
    partials: tl.tensor,
    output: tl.tensor,
    sinks: tl.tensor,
    tiles: tl.tensor,
    NUM_MEMBERS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    PADDED_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    PARTS: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    """One query row of a tile: a program reads little, and many of them share the bandwidth."""
    head = tl.program_id(1)
    row = tl.program_id(2)
    mine = tiles + tl.program_id(0) * _TILE_SIZE
    tile_row = tl.load(mine + _TILE_FIRST_ROW) + row
    end_part = tl.load(mine + _TILE_END_PART)
    first_part, num_tokens = tl.load(mine + _TILE_FIRST_PART), tl.load(mine + _TILE_NUM_TOKENS)
    token = tile_row // NUM_MEMBERS
    wait_for_former(IS_DEPENDENT)
    if token < num_tokens:
        column = tl.arange(0, PADDED_SIZE)
        query_head = head * NUM_MEMBERS + tile_row % NUM_MEMBERS
        highest = -float("inf")
        total = 0.0
        if HAS_SINKS:
            highest = _sink_scores(sinks + query_head, token < num_tokens)
            total = 1.0
        sums = tl.zeros([PADDED_SIZE], tl.float32)
        for start in range(first_part, end_part, PARTS):
            part = start + tl.arange(0, PARTS)
            is_part = part < end_part
            part_row = (part * NUM_KV_HEADS + head) * ROWS + row
            part_offsets = part_row.to(tl.int64) * (PADDED_SIZE + 2)
            part_highest = tl.load(
                partials + part_offsets + PADDED_SIZE, mask=is_part, other=-float("inf")
            )
            new_highest = tl.maximum(highest, tl.max(part_highest, 0))
            shift = tl.where(new_highest == -float("inf"), 0.0, new_highest)
            weights = tl.exp2(part_highest - shift)
            decay = tl.exp2(highest - shift)
            totals = tl.load(partials + part_offsets + PADDED_SIZE + 1, mask=is_part, other=0.0)
            part_sums = tl.load(
                partials + part_offsets[:, None] + column[None, :], mask=is_part[:, None], other=0.0
            )
            sums = sums * decay + tl.sum(part_sums * weights[:, None], 0)
            total = total * decay + tl.sum(totals * weights, 0)
            highest = new_highest
        packed_token = (tl.load(mine + _TILE_FIRST_TOKEN) + token).to(tl.int64)
        packed = (packed_token * NUM_KV_HEADS * NUM_MEMBERS + query_head) * HEAD_SIZE
        combined = (sums / total).to(output.dtype.element_ty)
        tl.store(output + packed + column, combined, mask=column < HEAD_SIZE)
