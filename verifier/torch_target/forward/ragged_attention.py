"""Attention of a ragged round on a CPU: one scaled-dot-product attention for each stream.

Each goes over a slice of the cache where the stream's blocks are neighbours. This module must
never decide which tokens a stream has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from verifier.torch_target.forward.block_cache import BlockCache
from verifier.torch_target.forward.ragged_layout import RaggedLayout, StreamView
from verifier.torch_target.forward.written_out_attention import written_out_attention
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.score_rule import ScoreRule


@dataclass(frozen=True, slots=True)
class RaggedAttention:
    """Implements `RoundAttention`."""

    layout: RaggedLayout
    cache: BlockCache

    @property
    def heads(self) -> HeadShape:
        return self.layout.heads

    @property
    def windows(self) -> frozenset[int | None]:
        return self.layout.windows

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rule: ScoreRule,
    ) -> Tensor:
        keys, values = self.cache.of_layer(layer, key, value)
        keys.index_copy_(0, self.layout.slots, key[0].transpose(0, 1))
        values.index_copy_(0, self.layout.slots, value[0].transpose(0, 1))
        views = self.layout.views[rule.window]
        return _attend_streams(query, keys, values, self.layout, views, rule)


def _attend_streams(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: RaggedLayout,
    views: Sequence[StreamView],
    rule: ScoreRule,
) -> Tensor:
    """One scaled-dot-product attention for each stream: [1, num_tokens, num_heads, head_size]."""
    keys, values = keys.transpose(0, 1)[None], values.transpose(0, 1)[None]
    rows = query[0].transpose(0, 1).reshape(-1, query.shape[3])
    if layout.fold is not None:
        rows = rows.index_select(0, layout.fold)
    outputs = [
        _attend(stream_rows, keys, values, view, layout.heads, rule)
        for stream_rows, view in zip(torch.split(rows, layout.num_query_rows), views, strict=True)
    ]
    output = torch.cat(outputs)
    if layout.unfold is not None:
        output = output.index_select(0, layout.unfold)
    return output.view(1, query.shape[2], query.shape[1], -1)


def _attend(
    rows: Tensor,
    keys: Tensor,
    values: Tensor,
    view: StreamView,
    heads: HeadShape,
    rule: ScoreRule,
) -> Tensor:
    """One stream's output rows [query rows, head_size] in the order of its query rows."""
    if view.is_folded:
        query = rows.view(1, heads.num_kv_heads, -1, rows.shape[1])
    else:
        query = rows.view(-1, heads.num_heads, rows.shape[1]).transpose(0, 1)[None]
    if view.slots is None:
        key = keys.narrow(2, view.first_slot, view.num_keys)
        value = values.narrow(2, view.first_slot, view.num_keys)
    else:
        key, value = keys.index_select(2, view.slots), values.index_select(2, view.slots)
    if rule.softcap is not None or rule.sinks is not None:
        output = written_out_attention(query, key, value, view, rule)
        return output.transpose(1, 2).reshape(-1, output.shape[3])
    output = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=view.mask,
        is_causal=view.is_causal,
        scale=rule.scale,
        enable_gqa=not view.is_folded and heads.num_heads != heads.num_kv_heads,
    )
    return output.transpose(1, 2).reshape(-1, output.shape[3])
