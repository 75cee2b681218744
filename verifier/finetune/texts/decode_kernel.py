"""Attention of one new token a slot over its cache, in Triton; heads of shared keys go together."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from verifier.torch_target.kernels.launch import kernel

_LEAST_ROWS = 16  # of a product of tensor cores
_BLOCK_TOKENS = 64


@kernel
def _decode(
    QUERY: tl.tensor,
    KEYS: tl.tensor,
    VALUES: tl.tensor,
    OUT: tl.tensor,
    POSITIONS: tl.tensor,
    scale: tl.tensor,
    num_tokens: tl.tensor,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    slot = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    length = tl.load(POSITIONS + slot) + 1
    row = tl.arange(0, ROWS)
    place = tl.arange(0, HEAD_SIZE)
    heads = (slot * KV_HEADS + head) * GROUP + row
    is_head = (row < GROUP)[:, None]
    at = heads[:, None] * HEAD_SIZE + place[None, :]
    query = tl.load(QUERY + at, mask=is_head, other=0.0)
    first = (slot * KV_HEADS + head) * num_tokens
    highest = tl.full([ROWS], -1e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, HEAD_SIZE], tl.float32)
    for start in range(0, length, BLOCK):
        token = start + tl.arange(0, BLOCK)
        is_there = token < length
        cached = (first + token[:, None]) * HEAD_SIZE + place[None, :]
        key = tl.load(KEYS + cached, mask=is_there[:, None], other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision=PRECISION).to(tl.float32) * scale
        score = tl.where(is_there[None, :], score, -1e30)
        higher = tl.maximum(highest, tl.max(score, 1))
        weight = tl.exp(score - higher[:, None])
        kept = tl.exp(highest - higher)
        value = tl.load(VALUES + cached, mask=is_there[:, None], other=0.0)
        part = tl.dot(weight.to(value.dtype), value, input_precision=PRECISION)
        mixed = mixed * kept[:, None] + part.to(tl.float32)
        total = total * kept + tl.sum(weight, 1)
        highest = higher
    out = mixed / total[:, None]
    tl.store(OUT + at, out.to(OUT.dtype.element_ty), mask=is_head)


def decode_attention_kernel(
    query: Tensor, keys: Tensor, values: Tensor, positions: Tensor
) -> Tensor:
    """See `decode_attention.attend`."""
    query = query.contiguous()
    num_slots, num_heads, head_size = query.shape
    kv_heads, num_tokens = keys.shape[1], keys.shape[2]
    group = num_heads // kv_heads
    out = torch.empty_like(query)
    _decode[(num_slots, kv_heads)](
        *(query, keys, values, out, positions, head_size**-0.5, num_tokens),
        KV_HEADS=kv_heads,
        GROUP=group,
        ROWS=max(_LEAST_ROWS, triton.next_power_of_2(group)),
        HEAD_SIZE=head_size,
        BLOCK=_BLOCK_TOKENS,
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
        num_warps=4,
        num_stages=2,
    )
    return out
