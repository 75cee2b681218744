"""Small operations of a decoder layer as one Triton kernel each, on a GPU.

All but `store` are for 16-bit models: they do their arithmetic in float32 and round where the stock
model rounds, so results differ from it in the last bit at most. This module must never know which
model calls it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from verifier.torch_target.kernels.launch import kernel, launch_options, wait_for_former
from verifier.torch_target.kernels.norm_form import NormForm
from verifier.torch_target.kernels.rotation import angles_of, turned

ACTIVATIONS = ("silu", "gelu_pytorch_tanh")


def rms_norm(x: Tensor, form: NormForm) -> Tensor:
    """X [..., size], normed."""
    size = x.shape[-1]
    rows = x.reshape(-1, size)
    output = torch.empty_like(rows)
    block = triton.next_power_of_2(size)
    _rms_norm[(rows.shape[0],)](
        rows,
        form.weight,
        output,
        rows.stride(0),
        form.epsilon,
        SIZE=size,
        BLOCK=block,
        ADDS_ONE=form.adds_one,
        num_warps=min(max(block // 512, 1), 16),
        **launch_options(x.device),
    )
    return output.view(x.shape)


def add_rms_norm(sums: Tensor, x: Tensor, form: NormForm) -> Tensor:
    """Add x to the sums [..., size], where they lie, and give the norm of that as `rms_norm` does.

    Both are contiguous and of one type; a sum is rounded before its norm is taken.
    """
    size = x.shape[-1]
    output = torch.empty_like(x)
    block = triton.next_power_of_2(size)
    _add_rms_norm[(x.numel() // size,)](
        sums,
        x,
        form.weight,
        output,
        form.epsilon,
        SIZE=size,
        BLOCK=block,
        ADDS_ONE=form.adds_one,
        num_warps=min(max(block // 512, 1), 16),
        **launch_options(x.device),
    )
    return output


def gated(gate_up: Tensor, activation: str) -> Tensor:
    """activation(gate) * up of [..., gate and up side by side]: [..., half of that]."""
    size = gate_up.shape[-1] // 2
    rows = gate_up.view(-1, 2 * size)
    output = gate_up.new_empty(rows.shape[0], size)
    block = min(triton.next_power_of_2(size), 1024)
    _gated[(rows.shape[0], triton.cdiv(size, block))](
        rows,
        output,
        SIZE=size,
        BLOCK=block,
        IS_SILU=activation == "silu",
        num_warps=4,
        **launch_options(rows.device),
    )
    return output.view(*gate_up.shape[:-1], size)


def rotary(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotated query and key [1, num_heads, num_tokens, head_size]; cos and sin [1, num_tokens, d].

    Both come out with the heads of a token side by side.
    """
    _, num_heads, num_tokens, size = query.shape
    num_kv_heads = key.shape[1]
    new_query = query.new_empty(1, num_tokens, num_heads, size)
    new_key = key.new_empty(1, num_tokens, num_kv_heads, size)
    _rotary[(num_tokens,)](
        query,
        key,
        cos,
        sin,
        new_query,
        new_key,
        query.stride(1),
        query.stride(2),
        key.stride(1),
        key.stride(2),
        cos.stride(1),
        HEADS=num_heads,
        KV_HEADS=num_kv_heads,
        HALF=size // 2,
        HALF_BLOCK=triton.next_power_of_2(size // 2),
        HEADS_BLOCK=triton.next_power_of_2(num_heads),
        KV_HEADS_BLOCK=triton.next_power_of_2(num_kv_heads),
        num_warps=4,
        **launch_options(query.device),
    )
    return new_query.transpose(1, 2), new_key.transpose(1, 2)


def store(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, slots: Tensor) -> None:
    """Put key and value [1, num_heads, num_tokens, head_size] into slots [num_tokens].

    `keys` and `values` are [num_slots, num_heads, head_size], contiguous.
    """
    _, num_heads, num_tokens, size = key.shape
    _store[(num_tokens,)](
        key,
        value,
        keys,
        values,
        slots,
        key.stride(1),
        key.stride(2),
        value.stride(1),
        value.stride(2),
        HEADS=num_heads,
        SIZE=size,
        HEADS_BLOCK=triton.next_power_of_2(num_heads),
        SIZE_BLOCK=triton.next_power_of_2(size),
        num_warps=4,
        **launch_options(key.device),
    )


@kernel
def _rms_norm(
    x: tl.tensor,
    weight: tl.tensor,
    output: tl.tensor,
    stride: tl.tensor,
    epsilon: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    ADDS_ONE: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    is_column = column < SIZE
    scale = tl.load(weight + column, mask=is_column, other=0.0)
    wait_for_former(IS_DEPENDENT)
    values = tl.load(x + row * stride + column, mask=is_column, other=0.0).to(tl.float32)
    normed = _normed(values, scale, epsilon, output.dtype.element_ty, SIZE, ADDS_ONE)
    tl.store(output + row * SIZE + column, normed, mask=is_column)


@kernel
def _add_rms_norm(
    sums: tl.tensor,
    x: tl.tensor,
    weight: tl.tensor,
    output: tl.tensor,
    epsilon: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    ADDS_ONE: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    column = tl.arange(0, BLOCK)
    is_column = column < SIZE
    scale = tl.load(weight + column, mask=is_column, other=0.0)
    dtype = output.dtype.element_ty
    wait_for_former(IS_DEPENDENT)
    offsets = tl.program_id(0).to(tl.int64) * SIZE + column
    before = tl.load(sums + offsets, mask=is_column, other=0.0).to(tl.float32)
    total = (before + tl.load(x + offsets, mask=is_column, other=0.0).to(tl.float32)).to(dtype)
    tl.store(sums + offsets, total, mask=is_column)
    normed = _normed(total.to(tl.float32), scale, epsilon, dtype, SIZE, ADDS_ONE)
    tl.store(output + offsets, normed, mask=is_column)


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


@kernel
def _gated(
    gate_up: tl.tensor,
    output: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    IS_SILU: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    wait_for_former(IS_DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_column = column < SIZE
    pointers = gate_up + row * 2 * SIZE + column
    gate = tl.load(pointers, mask=is_column, other=0.0).to(tl.float32)
    up = tl.load(pointers + SIZE, mask=is_column, other=0.0).to(tl.float32)
    if IS_SILU:
        active = gate * tl.sigmoid(gate)
    else:
        # tanh(t) = 2 sigmoid(2 t) - 1
        cubic = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        active = gate * tl.sigmoid(2.0 * cubic)
    active = active.to(output.dtype.element_ty).to(tl.float32)
    tl.store(output + row * SIZE + column, (active * up).to(output.dtype.element_ty), is_column)


@kernel
def _rotary(
    query: tl.tensor,
    key: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    new_query: tl.tensor,
    new_key: tl.tensor,
    query_head_stride: tl.tensor,
    query_token_stride: tl.tensor,
    key_head_stride: tl.tensor,
    key_token_stride: tl.tensor,
    angle_stride: tl.tensor,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    KV_HEADS_BLOCK: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    wait_for_former(IS_DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    angle = token * angle_stride + tl.arange(0, HALF_BLOCK)[None, :]
    is_angle = tl.arange(0, HALF_BLOCK)[None, :] < HALF
    angles = angles_of(cos, sin, angle, is_angle, HALF)
    pointers = query + token * query_token_stride
    target = new_query + token * HEADS * 2 * HALF
    _rotate(pointers, target, query_head_stride, angles, HEADS, HEADS_BLOCK, HALF, HALF_BLOCK)
    pointers = key + token * key_token_stride
    target = new_key + token * KV_HEADS * 2 * HALF
    _rotate(pointers, target, key_head_stride, angles, KV_HEADS, KV_HEADS_BLOCK, HALF, HALF_BLOCK)


@kernel
def _rotate(
    x: tl.tensor,
    output: tl.tensor,
    head_stride: tl.tensor,
    angles: tl.tensor,
    HEADS: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
) -> None:
    """All heads of one token."""
    head = tl.arange(0, HEADS_BLOCK)[:, None]
    column = tl.arange(0, HALF_BLOCK)[None, :]
    is_element = (head < HEADS) & (column < HALF)
    dtype = output.dtype.element_ty
    pointers = x + head * head_stride + column
    left = tl.load(pointers, mask=is_element, other=0.0).to(tl.float32)
    right = tl.load(pointers + HALF, mask=is_element, other=0.0).to(tl.float32)
    new_left, new_right = turned(left, right, angles, dtype)
    target = output + head * 2 * HALF + column
    tl.store(target, new_left, mask=is_element)
    tl.store(target + HALF, new_right, mask=is_element)


@kernel
def _store(
    key: tl.tensor,
    value: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    slots: tl.tensor,
    key_head_stride: tl.tensor,
    key_token_stride: tl.tensor,
    value_head_stride: tl.tensor,
    value_token_stride: tl.tensor,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    SIZE_BLOCK: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    wait_for_former(IS_DEPENDENT)
    head = tl.arange(0, HEADS_BLOCK)[:, None]
    column = tl.arange(0, SIZE_BLOCK)[None, :]
    is_element = (head < HEADS) & (column < SIZE)
    target = (slot * HEADS + head) * SIZE + column
    pointers = key + token * key_token_stride + head * key_head_stride + column
    tl.store(keys + target, tl.load(pointers, mask=is_element), mask=is_element)
    pointers = value + token * value_token_stride + head * value_head_stride + column
    tl.store(values + target, tl.load(pointers, mask=is_element), mask=is_element)
