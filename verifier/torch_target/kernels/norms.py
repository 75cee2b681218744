"""Root-mean-square norms of rows as one Triton kernel each, on a GPU.

A residual sum before a norm is part of its kernel, and so are the scales of what is added and the
rounding to 8-bit floats of what comes out. For 16-bit models: arithmetic in float32, rounded where
the stock model rounds. This module must never know which model calls it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from verifier.torch_target.kernels.launch import kernel, launch_options, wait_for_former
from verifier.torch_target.kernels.norm_form import NormForm
from verifier.torch_target.kernels.row_quantisation import (
    EightBitRows,
    ScaledSums,
    eight_bits,
    with_scales,
)


def rms_norm(x: Tensor, form: NormForm) -> Tensor:
    """X [..., size], normed."""
    rows = x.reshape(-1, x.shape[-1])
    output = torch.empty_like(rows)
    _launch(rows, None, form, output)
    return output.view(x.shape)


def rms_norm_rows(x: Tensor, form: NormForm) -> EightBitRows:
    """The same in 8-bit floats, as rows [n, size]."""
    rows = x.reshape(-1, x.shape[-1])
    output = EightBitRows.empty(rows)
    _launch(rows, None, form, output)
    return output


def add_rms_norm(sums: Tensor, x: Tensor | ScaledSums, form: NormForm) -> Tensor:
    """Add x to the sums [..., size], where they lie, and give the norm of that as `rms_norm` does.

    All are contiguous and of one type; a sum is rounded before its norm is taken.
    """
    output = torch.empty_like(sums)
    _launch(x, sums, form, output)
    return output


def add_rms_norm_rows(sums: Tensor, x: Tensor | ScaledSums, form: NormForm) -> EightBitRows:
    """The same in 8-bit floats, as rows [n, size]."""
    output = EightBitRows.empty(sums.view(-1, sums.shape[-1]))
    _launch(x, sums, form, output)
    return output


def _launch(
    x: Tensor | ScaledSums, sums: Tensor | None, form: NormForm, output: Tensor | EightBitRows
) -> None:
    values, row_scales, column_scales = with_scales(x)
    small, scales = output if isinstance(output, EightBitRows) else (output, output)
    size = values.shape[-1]
    block = triton.next_power_of_2(size)
    _rms_norm[(values.numel() // size,)](
        values,
        row_scales,
        column_scales,
        values if sums is None else sums,
        form.weight,
        small,
        scales,
        values.stride(-2),
        form.epsilon,
        SIZE=size,
        BLOCK=block,
        ADDS_ONE=form.adds_one,
        HAS_SUMS=sums is not None,
        HAS_SCALES=isinstance(x, ScaledSums),
        HAS_SMALL=isinstance(output, EightBitRows),
        num_warps=min(max(block // 256, 1), 16),
        **launch_options(values.device),
    )


@kernel
def _rms_norm(
    x: tl.tensor,
    row_scales: tl.tensor,
    column_scales: tl.tensor,
    sums: tl.tensor,
    weight: tl.tensor,
    output: tl.tensor,
    output_scales: tl.tensor,
    stride: tl.tensor,
    epsilon: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    ADDS_ONE: tl.constexpr,
    HAS_SUMS: tl.constexpr,
    HAS_SCALES: tl.constexpr,
    HAS_SMALL: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    """One row; what is not there is not read."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    is_column = column < SIZE
    dtype = x.dtype.element_ty
    norm_scale = tl.load(weight + column, mask=is_column, other=0.0)
    if HAS_SCALES:
        column_scale = tl.load(column_scales + column, mask=is_column, other=0.0)
    wait_for_former(IS_DEPENDENT)
    values = tl.load(x + row * stride + column, mask=is_column, other=0.0).to(tl.float32)
    if HAS_SCALES:
        values = (values * column_scale * tl.load(row_scales + row)).to(dtype).to(tl.float32)
    if HAS_SUMS:
        pointers = sums + row * SIZE + column
        total = tl.load(pointers, mask=is_column, other=0.0).to(tl.float32) + values
        tl.store(pointers, total.to(dtype), mask=is_column)
        values = total.to(dtype).to(tl.float32)
    normed = _normed(values, norm_scale, epsilon, dtype, SIZE, ADDS_ONE)
    if HAS_SMALL:
        normed, scale = eight_bits(normed.to(tl.float32))
        tl.store(output_scales + row, scale)
    tl.store(output + row * SIZE + column, normed, mask=is_column)


@kernel
def _normed(
    values: tl.tensor,
    scale: tl.tensor,
    epsilon: tl.tensor,
    dtype: tl.constexpr,
    SIZE: tl.constexpr,
    ADDS_ONE: tl.constexpr,
) -> tl.tensor:
    """A row over its root mean square, times its scale."""
    values = values * tl.rsqrt(tl.sum(values * values, 0) / SIZE + epsilon)
    if ADDS_ONE:
        normed = values * (1.0 + scale.to(tl.float32))
    else:
        normed = values.to(dtype).to(tl.float32) * scale.to(tl.float32)
    return normed.to(dtype)
