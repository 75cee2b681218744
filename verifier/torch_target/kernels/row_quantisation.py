"""Rows of activations as 8-bit floats with a scale each, as one Triton kernel.

What a matrix product in 8-bit floats takes; what it gives without its scales is added here, too.
This module must never see a weight.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from verifier.torch_target.kernels.launch import kernel, launch_options, wait_for_former

_LARGEST = tl.constexpr(448.0)  # of torch.float8_e4m3fn
_SMALLEST_SCALE = tl.constexpr(1e-12)  # a row of zeros has any


class EightBitRows(NamedTuple):
    """Rows in 8-bit floats, and what to multiply each by."""

    values: Tensor  # [n, size] float8_e4m3fn
    scales: Tensor  # [n, 1] float32

    @staticmethod
    def empty(like: Tensor) -> EightBitRows:
        """Room for rows as many and as long as these [n, size]."""
        return EightBitRows(
            torch.empty_like(like, dtype=torch.float8_e4m3fn),
            torch.empty(len(like), 1, device=like.device, dtype=torch.float32),
        )


class ScaledSums(NamedTuple):
    """Numbers that stand for their multiples: by the scale of their row and of their column."""

    values: Tensor  # [n, size] of 16 bits, contiguous
    row_scales: Tensor  # [n, 1] float32
    column_scales: Tensor  # [size, 1] float32


def with_scales(numbers: Tensor | ScaledSums) -> ScaledSums:
    """For a kernel that is told whether there are scales; where not, they may not be read."""
    if isinstance(numbers, ScaledSums):
        return numbers
    return ScaledSums(numbers, numbers, numbers)


def quantise_rows(rows: Tensor) -> EightBitRows:
    """The rows [n, size] in 8-bit floats."""
    num_rows, size = rows.shape
    quantised = EightBitRows.empty(rows)
    block = triton.next_power_of_2(size)
    options = launch_options(rows.device)
    num_warps = min(max(block // 1024, 4), 16)
    _quantise[(num_rows,)](
        rows,
        quantised.values,
        quantised.scales,
        rows.stride(0),
        size,
        block,
        num_warps=num_warps,
        **options,
    )
    return quantised


def add_scaled(sums: Tensor, scaled: ScaledSums) -> None:
    """Add multiples to the sums [1, n, size], where they lie; both are contiguous and of one type.

    A multiple is rounded before it is added.
    """
    num_rows, size = scaled.values.shape
    block = min(triton.next_power_of_2(size), 2048)
    _add_scaled[(num_rows, triton.cdiv(size, block))](
        sums, *scaled, SIZE=size, BLOCK=block, num_warps=4, **launch_options(sums.device)
    )


@kernel
def eight_bits(values: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """A row of float32 in 8-bit floats, and what to multiply it by."""
    scale = tl.maximum(tl.max(tl.abs(values), axis=0) / _LARGEST, _SMALLEST_SCALE)
    return (values * (1.0 / scale)).to(tl.float8e4nv), scale


@kernel
def _quantise(
    rows: tl.tensor,
    quantised: tl.tensor,
    scales: tl.tensor,
    stride: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    wait_for_former(IS_DEPENDENT)
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    is_inside = columns < SIZE
    values = tl.load(rows + row * stride + columns, mask=is_inside, other=0.0).to(tl.float32)
    small, scale = eight_bits(values)
    tl.store(quantised + row * SIZE + columns, small, mask=is_inside)
    tl.store(scales + row, scale)


@kernel
def _add_scaled(
    sums: tl.tensor,
    values: tl.tensor,
    row_scales: tl.tensor,
    column_scales: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_column = column < SIZE
    column_scale = tl.load(column_scales + column, mask=is_column, other=0.0)
    wait_for_former(IS_DEPENDENT)
    pointers = sums + row * SIZE + column
    before = tl.load(pointers, mask=is_column, other=0.0)
    small = tl.load(values + row * SIZE + column, mask=is_column, other=0.0).to(tl.float32)
    multiple = (small * column_scale * tl.load(row_scales + row)).to(before.dtype)
    total = before.to(tl.float32) + multiple.to(tl.float32)
    tl.store(pointers, total.to(before.dtype), mask=is_column)
