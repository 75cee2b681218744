"""Heads of a layer made ready for attention in one kernel: normed, rotated, put into the cache.

What queries, keys and values are projected to lies side by side in one row for each token; a
stock model takes it apart, copies, norms twice, rotates and stores, in six kernels. Rounded where
the stock model rounds. This module must never know which model calls it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.launch import (
    kernel,
    kernel_for_any,
    launch_options,
    wait_for_former,
)
from verifier.torch_target.kernels.norm_form import NormForm
from verifier.torch_target.kernels.rotation import angles_of, turned
from verifier.torch_target.kernels.row_quantisation import ScaledSums, with_scales


@dataclass(frozen=True, slots=True)
class HeadForm:
    """How a layer's heads come out of its projections."""

    heads: HeadShape
    head_size: int
    norms: tuple[NormForm, NormForm] | None  # over each head of queries and of keys

    def query_key_value(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views [num_tokens, heads, head_size] of rows [num_tokens, all heads' numbers]."""
        heads = projected.view(projected.shape[0], -1, self.head_size)
        num_heads, num_kv_heads = self.heads.num_heads, self.heads.num_kv_heads
        query, key, value = torch.split(heads, [num_heads, num_kv_heads, num_kv_heads], dim=1)
        return query, key, value


def rotate_and_store(
    projected: Tensor | ScaledSums,
    form: HeadForm,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
) -> Tensor:
    """Queries [num_tokens, num_heads, head_size], normed and rotated; keys and values are stored.

    Args:
        projected: [num_tokens, (num_heads + 2 num_kv_heads) × head_size], rows contiguous; its
            scales may be apart.
        form: what these numbers are.
        cos: [num_tokens, head_size] of the angles, both halves alike in meaning.
        sin: as `cos`.
        keys: all slots of the layer [num_slots, num_kv_heads, head_size], contiguous.
        values: as `keys`.
        slots: [num_tokens], where the new keys and values go.
    """
    rows, row_scales, column_scales = with_scales(projected)
    num_tokens, size = rows.shape[0], form.head_size
    num_heads, num_kv_heads = form.heads.num_heads, form.heads.num_kv_heads
    query = rows.new_empty(num_tokens, num_heads, size)
    norms = form.norms
    query_weight, key_weight = (norm.weight for norm in norms) if norms else (cos, cos)  # unread
    query_epsilon, key_epsilon = (norm.epsilon for norm in norms) if norms else (0.0, 0.0)
    _rotate_and_store[(num_tokens, 2)](
        rows,
        row_scales,
        column_scales,
        cos,
        sin,
        slots,
        query,
        keys,
        values,
        query_weight,
        key_weight,
        query_epsilon,
        key_epsilon,
        rows.stride(0),
        cos.stride(0),
        HEADS=num_heads,
        KV_HEADS=num_kv_heads,
        HALF=size // 2,
        HALF_BLOCK=triton.next_power_of_2(size // 2),
        HEADS_BLOCK=triton.next_power_of_2(num_heads),
        KV_HEADS_BLOCK=triton.next_power_of_2(num_kv_heads),
        HAS_SCALES=isinstance(projected, ScaledSums),
        HAS_NORMS=norms is not None,
        ADDS_ONE=norms is not None and norms[0].adds_one,
        num_warps=4,
        **launch_options(rows.device),
    )
    return query


@kernel_for_any("slots")
def _rotate_and_store(
    projected: tl.tensor,
    row_scales: tl.tensor,
    column_scales: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    slots: tl.tensor,
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    query_weight: tl.tensor,
    key_weight: tl.tensor,
    query_epsilon: tl.tensor,
    key_epsilon: tl.tensor,
    stride: tl.tensor,
    angle_stride: tl.tensor,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    KV_HEADS_BLOCK: tl.constexpr,
    HAS_SCALES: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    ADDS_ONE: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    """Two programs for each token: one for its queries, one for its key and value."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    wait_for_former(IS_DEPENDENT)
    column = tl.arange(0, HALF_BLOCK)[None, :]
    angles = angles_of(cos, sin, token * angle_stride + column, column < HALF, HALF)
    row = projected + token * stride
    row_scale = tl.load(row_scales + token) if HAS_SCALES else 1.0
    if tl.program_id(1) == 0:
        _rotate(
            row,
            (row_scale, column_scales),
            query + token * HEADS * 2 * HALF,
            angles,
            (query_weight, query_epsilon),
            HEADS,
            HEADS_BLOCK,
            HALF,
            HALF_BLOCK,
            HAS_SCALES,
            HAS_NORMS,
            ADDS_ONE,
        )
    else:
        first = HEADS * 2 * HALF
        _rotate(
            row + first,
            (row_scale, column_scales + first),
            keys + slot * KV_HEADS * 2 * HALF,
            angles,
            (key_weight, key_epsilon),
            KV_HEADS,
            KV_HEADS_BLOCK,
            HALF,
            HALF_BLOCK,
            HAS_SCALES,
            HAS_NORMS,
            ADDS_ONE,
        )
        first += KV_HEADS * 2 * HALF
        target = values + slot * KV_HEADS * 2 * HALF
        scales = (row_scale, column_scales + first)
        _copy(row + first, scales, target, KV_HEADS, KV_HEADS_BLOCK, HALF, HALF_BLOCK, HAS_SCALES)


@kernel
def _copy(
    source: tl.tensor,
    scales: tl.tensor,
    target: tl.tensor,
    HEADS: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    HAS_SCALES: tl.constexpr,
) -> None:
    """Heads side by side, from `source` to `target` as they are."""
    column = tl.arange(0, HALF_BLOCK)[None, :]
    offsets = tl.arange(0, HEADS_BLOCK)[:, None] * 2 * HALF + column
    is_element = (offsets < HEADS * 2 * HALF) & (column < HALF)
    dtype = target.dtype.element_ty
    left = _loaded(source, scales, offsets, is_element, dtype, HAS_SCALES)
    right = _loaded(source, scales, offsets + HALF, is_element, dtype, HAS_SCALES)
    tl.store(target + offsets, left.to(dtype), mask=is_element)
    tl.store(target + offsets + HALF, right.to(dtype), mask=is_element)


@kernel
def _rotate(
    source: tl.tensor,
    scales: tl.tensor,
    target: tl.tensor,
    angles: tl.tensor,
    norm: tl.tensor,
    HEADS: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    HAS_SCALES: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    ADDS_ONE: tl.constexpr,
) -> None:
    """Heads side by side, from `source` to `target`."""
    weight, epsilon = norm
    head = tl.arange(0, HEADS_BLOCK)[:, None]
    column = tl.arange(0, HALF_BLOCK)[None, :]
    is_element = (head < HEADS) & (column < HALF)
    dtype = target.dtype.element_ty
    offsets = head * 2 * HALF + column
    left = _loaded(source, scales, offsets, is_element, dtype, HAS_SCALES)
    right = _loaded(source, scales, offsets + HALF, is_element, dtype, HAS_SCALES)
    if HAS_NORMS:
        squares = tl.sum(left * left, 1) + tl.sum(right * right, 1)
        scale = tl.rsqrt(squares / (2 * HALF) + epsilon)[:, None]
        left = _weighted(left * scale, weight + column, column < HALF, dtype, ADDS_ONE)
        right = _weighted(right * scale, weight + HALF + column, column < HALF, dtype, ADDS_ONE)
    new_left, new_right = turned(left, right, angles, dtype)
    tl.store(target + offsets, new_left, mask=is_element)
    tl.store(target + offsets + HALF, new_right, mask=is_element)


@kernel
def _loaded(
    source: tl.tensor,
    scales: tl.tensor,
    offsets: tl.tensor,
    is_element: tl.tensor,
    dtype: tl.constexpr,
    HAS_SCALES: tl.constexpr,
) -> tl.tensor:
    """What was projected, in float32, rounded where a product with scales rounds."""
    numbers = tl.load(source + offsets, mask=is_element, other=0.0).to(tl.float32)
    if HAS_SCALES:
        row_scale, column_scales = scales
        column_scale = tl.load(column_scales + offsets, mask=is_element, other=0.0)
        numbers = (numbers * column_scale * row_scale).to(dtype).to(tl.float32)
    return numbers


@kernel
def _weighted(
    values: tl.tensor,
    pointers: tl.tensor,
    is_column: tl.tensor,
    dtype: tl.constexpr,
    ADDS_ONE: tl.constexpr,
) -> tl.tensor:
    """Normed values times their weights, rounded where `rms_norm` rounds."""
    weights = tl.load(pointers, mask=is_column, other=0.0).to(tl.float32)
    if ADDS_ONE:
        weighted = values * (1.0 + weights)
    else:
        weighted = values.to(dtype).to(tl.float32) * weights
    return weighted.to(dtype).to(tl.float32)
