"""Attention of one stream step by step, for scores that torch's fused one cannot make.

The numbers are those of transformers' own layers with soft-capped scores or attention sinks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.torch_target.forward.ragged_layout import StreamView
from verifier.torch_target.kernels.score_rule import ScoreRule


def written_out_attention(
    query: Tensor,  # [1, num_kv_heads or num_heads, query rows, head_size], folded or not
    key: Tensor,  # [1, num_kv_heads, num_keys, head_size]
    value: Tensor,
    view: StreamView,
    rule: ScoreRule,
) -> Tensor:
    """The output, shaped as the query."""
    if not view.is_folded:
        num_members = query.shape[1] // key.shape[1]
        key, value = (part.repeat_interleave(num_members, 1) for part in (key, value))
    scores = query @ key.transpose(2, 3) * rule.scale
    if rule.softcap is not None:
        scores = torch.tanh(scores / rule.softcap) * rule.softcap
    if view.mask is not None:
        scores += view.mask
    elif view.is_causal:
        is_hidden = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(is_hidden, -torch.inf)
    if rule.sinks is not None:
        scores = torch.cat([scores, _sink_scores(rule.sinks, scores)], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return weights[..., : key.shape[2]] @ value


def _sink_scores(sinks: Tensor, scores: Tensor) -> Tensor:
    """A column for each query row: rows of folded heads stand as (member, token)."""
    _, num_heads, num_rows, _ = scores.shape
    num_members = len(sinks) // num_heads
    by_row = sinks.view(num_heads, num_members).repeat_interleave(num_rows // num_members, dim=1)
    return by_row.to(scores.dtype)[None, :, :, None]
