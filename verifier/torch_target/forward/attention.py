"""Attention of a ragged round over a key/value cache in blocks, registered with transformers.

All streams of a round stand in one row of tokens.  A layer stores its keys and values and then does
one scaled-dot-product attention for each stream, over a slice of the cache where the stream's
blocks are neighbours.  This module must never decide which tokens a stream has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from shared.errors import ModelError
from verifier.torch_target.forward.block_cache import BlockCache
from verifier.torch_target.forward.ragged_layout import RaggedLayout, StreamView
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.paged_layout import PagedLayout

ATTENTION_NAME = "goodspeed"


# What an architecture may ask of its attention and ours does not do.
_UNSUPPORTED = {
    "softcap": "soft-capped scores",
    "s_aux": "attention sinks",
    "position_bias": "a position bias",
}


def ragged_attention(
    module: nn.Module,
    query: Tensor,  # [1, num_heads, num_tokens, head_size]
    key: Tensor,  # [1, num_kv_heads, num_tokens, head_size]
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    ragged_layout: RaggedLayout | PagedLayout | None = None,
    block_cache: BlockCache | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; the output is [1, num_tokens, num_heads, head_size].

    Layout and cache come down from the model's own keyword arguments, which every architecture that
    lets its attention be chosen hands on.

    Raises:
        ModelError: the layer wants what this attention does not do.
    """
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    if ragged_layout is None or block_cache is None:
        raise ModelError(f"layer {layer} of the target does not hand the round on to its attention")
    _check(layer, query, key, ragged_layout, sliding_window, others)
    keys, values = block_cache.store(layer, key, value, ragged_layout.slots)
    window = sliding_window or None  # some say 0 for none
    if isinstance(ragged_layout, PagedLayout):
        # Triton is there only beside a CUDA build of torch.
        from verifier.torch_target.kernels.attention import paged_attention

        scale = query.shape[3] ** -0.5 if scaling is None else scaling
        return paged_attention(query[0], keys, values, ragged_layout, window, scale)[None], None
    views = ragged_layout.views[window]
    return _attend_streams(query, keys, values, ragged_layout, views, scaling), None


# No mask function is registered for the name: transformers then builds no mask at all, where even a
# function that returns None would cost it a search for packed sequences, with a synchronisation.
AttentionInterface.register(ATTENTION_NAME, ragged_attention)


def _attend_streams(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: RaggedLayout,
    views: Sequence[StreamView],
    scaling: float | None,
) -> Tensor:
    """One scaled-dot-product attention for each stream: [1, num_tokens, num_heads, head_size]."""
    keys, values = keys.transpose(0, 1)[None], values.transpose(0, 1)[None]
    rows = query[0].transpose(0, 1).reshape(-1, query.shape[3])
    if layout.fold is not None:
        rows = rows.index_select(0, layout.fold)
    outputs = [
        _attend(stream_rows, keys, values, view, layout.heads, scaling)
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
    scaling: float | None,
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
    output = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=view.mask,
        is_causal=view.is_causal,
        scale=scaling,
        enable_gqa=not view.is_folded and heads.num_heads != heads.num_kv_heads,
    )
    return output.transpose(1, 2).reshape(-1, output.shape[3])


def _check(
    layer: int,
    query: Tensor,
    key: Tensor,
    layout: RaggedLayout | PagedLayout,
    sliding_window: int | None,
    others: Mapping[str, object],
) -> None:
    for name, what in _UNSUPPORTED.items():
        if others.get(name) is not None:
            raise ModelError(f"layer {layer} of the target uses {what}, which is not supported")
    if others.get("is_causal") is False:
        raise ModelError(f"layer {layer} of the target is not causal")
    if HeadShape(query.shape[1], key.shape[1]) != layout.heads:
        raise ModelError(
            f"layer {layer} of the target has {query.shape[1]} query and {key.shape[1]} key heads, "
            f"not {layout.heads.num_heads} and {layout.heads.num_kv_heads}"
        )
    if (sliding_window or None) not in layout.windows:
        raise ModelError(
            f"layer {layer} of the target has a window of {sliding_window} tokens, "
            "which its configuration does not name"
        )
