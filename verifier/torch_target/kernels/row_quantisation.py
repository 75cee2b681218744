"""Rows of activations as 8-bit floats with a scale each, as one Triton kernel.

What a matrix product in 8-bit floats takes. This module must never see a weight.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from verifier.torch_target.kernels.launch import kernel, launch_options, wait_for_former

_LARGEST = tl.constexpr(448.0)  # of torch.float8_e4m3fn
_SMALLEST_SCALE = tl.constexpr(1e-12)  # a row of zeros has any


def quantise_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The rows [n, size] in float8_e4m3fn, and what to multiply each by: [n, 1] float32."""
    num_rows, size = rows.shape
    quantised = torch.empty_like(rows, dtype=torch.float8_e4m3fn)
    scales = torch.empty(num_rows, 1, device=rows.device, dtype=torch.float32)
    block = triton.next_power_of_2(size)
    options = launch_options(rows.device)
    num_warps = min(max(block // 1024, 4), 16)
    _quantise[(num_rows,)](
        rows, quantised, scales, rows.stride(0), size, block, num_warps=num_warps, **options
    )
    return quantised, scales


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
    scale = tl.maximum(tl.max(tl.abs(values), axis=0) / _LARGEST, _SMALLEST_SCALE)
    small = (values / scale).to(tl.float8e4nv)
    tl.store(quantised + row * SIZE + columns, small, mask=is_inside)
    tl.store(scales + row, scale)
