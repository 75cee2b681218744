"""Attention of one new token a slot: by a kernel on a GPU, by PyTorch elsewhere."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

_LEAST_HEAD_SIZE = 16  # that tensor cores take; all sizes of the kernel are powers of 2


def attend(query: Tensor, keys: Tensor, values: Tensor, positions: Tensor) -> Tensor:
    """What each slot's token mixes of its own cache [slots, heads, head_size].

    `query` [slots, heads, head_size], `keys` and `values` [slots, kv_heads, tokens, head_size],
    `positions` int64 [slots]: the last one that counts.
    """
    head_size = query.shape[-1]
    is_power = head_size & (head_size - 1) == 0
    if query.is_cuda and is_power and head_size >= _LEAST_HEAD_SIZE:
        from verifier.finetune.texts.decode_kernel import decode_attention_kernel

        return decode_attention_kernel(query, keys, values, positions)
    return attend_by_torch(query, keys, values, positions)


def attend_by_torch(query: Tensor, keys: Tensor, values: Tensor, positions: Tensor) -> Tensor:
    """The reference of the kernel."""
    num_slots, num_heads, head_size = query.shape
    kv_heads, num_tokens = keys.shape[1], keys.shape[2]
    grouped = query.reshape(num_slots, kv_heads, num_heads // kv_heads, head_size)
    is_there = torch.arange(num_tokens, device=query.device)[None] <= positions[:, None]
    mask = is_there[:, None, None]
    mixed = functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
    return mixed.reshape(num_slots, num_heads, head_size)
