"""Small operations of a decoder layer as one Triton kernel each, for 16-bit models on a GPU.

Each does its arithmetic in float32 and rounds where the stock model rounds, so results differ from
it in the last bit at most.  This module must never know which model calls it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ACTIVATIONS = ("silu", "gelu_pytorch_tanh")


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, *, adds_one: bool) -> Tensor:
    """X [..., size] over its root mean square, times weight [size], or 1 + weight."""
    size = x.shape[-1]
    rows = x.reshape(-1, size)
    output = torch.empty_like(rows)
    block = triton.next_power_of_2(size)
    _rms_norm[(rows.shape[0],)](
        rows,
        weight,
        output,
        rows.stride(0),
        epsilon,
        SIZE=size,
        BLOCK=block,
        ADDS_ONE=adds_one,
        num_warps=min(max(block // 512, 1), 16),
    )
    return output.view(x.shape)


def gated(gate_up: Tensor, activation: str) -> Tensor:
    """activation(gate) * up of [..., gate and up side by side]: [..., half of that]."""
    size = gate_up.shape[-1] // 2
    rows = gate_up.view(-1, 2 * size)
    output = gate_up.new_empty(rows.shape[0], size)
    block = min(triton.next_power_of_2(size), 1024)
    _gated[(rows.shape[0], triton.cdiv(size, block))](
        rows, output, SIZE=size, BLOCK=block, IS_SILU=activation == "silu", num_warps=4
    )
    return output.view(*gate_up.shape[:-1], size)


def rotary(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotated query and key [1, num_heads, num_tokens, head_size]; cos and sin [1, num_tokens, d].

    Both come out with the heads of a token side by side.
    """
    return _rotated(query, cos, sin), _rotated(key, cos, sin)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    _, num_heads, num_tokens, size = x.shape
    output = x.new_empty(1, num_tokens, num_heads, size)
    _rotary[(num_tokens,)](
        x,
        cos,
        sin,
        output,
        x.stride(1),
        x.stride(2),
        cos.stride(1),
        HEADS=num_heads,
        HEADS_BLOCK=triton.next_power_of_2(num_heads),
        HALF=size // 2,
        HALF_BLOCK=triton.next_power_of_2(size // 2),
        num_warps=4,
    )
    return output.transpose(1, 2)


@triton.jit  # type: ignore[misc, untyped-decorator, unused-ignore]
def _rms_norm(  # type: ignore[no-untyped-def]
    x,
    weight,
    output,
    stride,
    epsilon,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    ADDS_ONE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    is_column = column < SIZE
    values = tl.load(x + row * stride + column, mask=is_column, other=0.0).to(tl.float32)
    scale = tl.load(weight + column, mask=is_column, other=0.0)
    values = values * tl.rsqrt(tl.sum(values * values, 0) / SIZE + epsilon)
    if ADDS_ONE:
        normed = values * (1.0 + scale.to(tl.float32))
    else:
        normed = values.to(output.dtype.element_ty).to(tl.float32) * scale.to(tl.float32)
    tl.store(output + row * SIZE + column, normed.to(output.dtype.element_ty), mask=is_column)


@triton.jit  # type: ignore[misc, untyped-decorator, unused-ignore]
def _gated(  # type: ignore[no-untyped-def]
    gate_up, output, SIZE: tl.constexpr, BLOCK: tl.constexpr, IS_SILU: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_column = column < SIZE
    place = gate_up + row * 2 * SIZE + column
    gate = tl.load(place, mask=is_column, other=0.0).to(tl.float32)
    up = tl.load(place + SIZE, mask=is_column, other=0.0).to(tl.float32)
    if IS_SILU:
        active = gate * tl.sigmoid(gate)
    else:
        # tanh(t) = 2 sigmoid(2 t) - 1
        cubic = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        active = gate * tl.sigmoid(2.0 * cubic)
    active = active.to(output.dtype.element_ty).to(tl.float32)
    tl.store(output + row * SIZE + column, (active * up).to(output.dtype.element_ty), is_column)


@triton.jit  # type: ignore[misc, untyped-decorator, unused-ignore]
def _rotary(  # type: ignore[no-untyped-def]
    x,
    cos,
    sin,
    output,
    head_stride,
    token_stride,
    angle_stride,
    HEADS: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEADS_BLOCK)[:, None]
    column = tl.arange(0, HALF_BLOCK)[None, :]
    is_place = (head < HEADS) & (column < HALF)
    angle = token * angle_stride + column
    dtype = output.dtype.element_ty
    cos_left = tl.load(cos + angle, mask=column < HALF, other=0.0).to(tl.float32)
    cos_right = tl.load(cos + angle + HALF, mask=column < HALF, other=0.0).to(tl.float32)
    sin_left = tl.load(sin + angle, mask=column < HALF, other=0.0).to(tl.float32)
    sin_right = tl.load(sin + angle + HALF, mask=column < HALF, other=0.0).to(tl.float32)
    place = x + token * token_stride + head * head_stride + column
    left = tl.load(place, mask=is_place, other=0.0).to(tl.float32)
    right = tl.load(place + HALF, mask=is_place, other=0.0).to(tl.float32)
    # The stock model rounds each product before it adds them.
    new_left = (left * cos_left).to(dtype).to(tl.float32) - (right * sin_left).to(dtype)
    new_right = (right * cos_right).to(dtype).to(tl.float32) + (left * sin_right).to(dtype)
    target = output + (token * HEADS + head) * 2 * HALF + column
    tl.store(target, new_left.to(dtype), mask=is_place)
    tl.store(target + HALF, new_right.to(dtype), mask=is_place)
