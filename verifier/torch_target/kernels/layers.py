"""Small operations of a decoder layer as one Triton kernel each, on a GPU.

All but `store` are for 16-bit models: they do their arithmetic in float32 and round where the stock
model rounds, so results differ from it in the last bit at most. This module must never know which
model calls it.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from verifier.torch_target.kernels.launch import (
    kernel,
    kernel_for_any,
    launch_options,
    wait_for_former,
)
from verifier.torch_target.kernels.rotation import angles_of, turned
from verifier.torch_target.kernels.row_quantisation import (
    EightBitRows,
    ScaledSums,
    eight_bits,
    with_scales,
)

ACTIVATIONS = ("silu", "gelu_pytorch_tanh")


def gated(gate_up: Tensor | ScaledSums, activation: str) -> Tensor:
    """activation(gate) * up of [..., gate and up side by side]: [..., half of that].

    [1, n, half] where scales are apart.
    """
    values = with_scales(gate_up).values
    size = values.shape[-1] // 2
    output = values.new_empty(values.numel() // (2 * size), size)
    _launch_gated(gate_up, output, activation, min(triton.next_power_of_2(size), 1024))
    return output.view(*((1, -1) if isinstance(gate_up, ScaledSums) else values.shape[:-1]), size)


def gated_rows(gate_up: Tensor | ScaledSums, activation: str) -> EightBitRows:
    """The same in 8-bit floats, as rows [n, half]."""
    values = with_scales(gate_up).values
    size = values.shape[-1] // 2
    output = EightBitRows.empty(values.view(-1, 2 * size)[:, :size])
    _launch_gated(gate_up, output, activation, triton.next_power_of_2(size))
    return output


def _launch_gated(
    gate_up: Tensor | ScaledSums, output: Tensor | EightBitRows, activation: str, block: int
) -> None:
    values, row_scales, column_scales = with_scales(gate_up)
    small, scales = output if isinstance(output, EightBitRows) else (output, output)
    size = small.shape[1]
    _gated[(small.shape[0], triton.cdiv(size, block))](
        values,
        row_scales,
        column_scales,
        small,
        scales,
        SIZE=size,
        BLOCK=block,
        IS_SILU=activation == "silu",
        HAS_SCALES=isinstance(gate_up, ScaledSums),
        HAS_SMALL=isinstance(output, EightBitRows),
        num_warps=min(max(block // 512, 4), 32),
        **launch_options(values.device),
    )


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
def _gated(
    gate_up: tl.tensor,
    row_scales: tl.tensor,
    column_scales: tl.tensor,
    output: tl.tensor,
    output_scales: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    IS_SILU: tl.constexpr,
    HAS_SCALES: tl.constexpr,
    HAS_SMALL: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    """A block of one row, a whole one where it is rounded; what is not there is not read."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_column = column < SIZE
    dtype = gate_up.dtype.element_ty
    wait_for_former(IS_DEPENDENT)
    pointers = gate_up + row * 2 * SIZE + column
    gate = tl.load(pointers, mask=is_column, other=0.0).to(tl.float32)
    up = tl.load(pointers + SIZE, mask=is_column, other=0.0).to(tl.float32)
    if HAS_SCALES:
        # Not before the wait: four blocks of a whole row at once do not fit into registers.
        row_scale = tl.load(row_scales + row)
        pointers = column_scales + column
        gate *= tl.load(pointers, mask=is_column, other=0.0) * row_scale
        gate = gate.to(dtype).to(tl.float32)
        up *= tl.load(pointers + SIZE, mask=is_column, other=0.0) * row_scale
        up = up.to(dtype).to(tl.float32)
    if IS_SILU:
        active = gate * tl.sigmoid(gate)
    else:
        # tanh(t) = 2 sigmoid(2 t) - 1
        cubic = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        active = gate * tl.sigmoid(2.0 * cubic)
    product = (active.to(dtype).to(tl.float32) * up).to(dtype)
    if HAS_SMALL:
        product, scale = eight_bits(product.to(tl.float32))
        tl.store(output_scales + row, scale)
    tl.store(output + row * SIZE + column, product, is_column)


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


@kernel_for_any("slots")
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
