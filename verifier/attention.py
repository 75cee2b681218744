"""Attention of a ragged round over a key/value cache in blocks, registered with transformers.

All streams of a round stand in one row of tokens.  What depends on the round alone (where keys
go, who sees what) is laid out once; a layer stores its keys and values and then does one
scaled-dot-product attention for each stream, over a slice of the cache where the stream's
blocks are neighbours.  This module must never decide which tokens a stream has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from shared.errors import ModelError
from verifier.attention_heads import HeadShape
from verifier.paged_layout import PagedLayout
from verifier.target import RoundItem

ATTENTION_NAME = "goodspeed"

# Up to this many new tokens, the query heads that share a key head are folded into one matrix with
# them: one product where enable_gqa does one for each head. 5 tokens at context 300 of
# SmolLM2-135M: 51 instead of 63 microseconds (2 cores of an EPYC 9005, 2025-11). A mask for folded
# queries is larger by the heads in a group, which long prompts would feel.
_MAX_FOLDED_TOKENS = 64

# What an architecture may ask of its attention and ours does not do.
_UNSUPPORTED = {
    "softcap": "soft-capped scores",
    "s_aux": "attention sinks",
    "position_bias": "a position bias",
}


class BlockCache:
    """Keys and values of every layer, one slot for each token that the blocks can hold."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def store(self, layer: int, key: Tensor, value: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values [1, num_heads, num_tokens, head_size] into slots [num_tokens].

        Returns all keys and values of the layer [num_slots, num_heads, head_size].  The
        first call for a layer allocates it: only then is the shape of its heads known for every
        architecture.
        """
        if layer not in self._layers:
            self._layers[layer] = (self._allocated(key), self._allocated(value))
        keys, values = self._layers[layer]
        if key.is_cuda:
            # Triton is there only beside a CUDA build of torch.
            from verifier.fused_kernels import store

            store(key, value, keys, values, slots)
        else:
            keys.index_copy_(0, slots, key[0].transpose(0, 1))
            values.index_copy_(0, slots, value[0].transpose(0, 1))
        return keys, values

    @property
    def layers(self) -> frozenset[int]:
        """The layers that have stored something."""
        return frozenset(self._layers)

    def _allocated(self, like: Tensor) -> Tensor:
        # Neighbouring tokens side by side: a stream's part is a slice, a token is written at once.
        return like.new_zeros(self.num_slots, like.shape[1], like.shape[3])


@dataclass(frozen=True, slots=True)
class StreamView:
    """What the queries of one stream see in the layers of one kind."""

    is_folded: bool  # query heads are rows of their key head's matrix
    num_keys: int
    first_slot: int  # of the keys, where their slots are neighbours
    slots: Tensor | None  # [num_keys] int64, where they are not
    mask: Tensor | None  # [query rows, num_keys], 0 or -inf; None: all is seen, or `is_causal`
    is_causal: bool  # keys and queries are the same tokens; each sees those before it


@dataclass(frozen=True, slots=True)
class RaggedLayout:
    """Where the tokens of a round are and what they see; the same in all layers."""

    heads: HeadShape
    slots: Tensor  # [num_tokens] int64: where the new keys and values go
    num_query_rows: list[int]  # of each stream, in [num_tokens × num_heads, head_size]
    views: Mapping[int | None, Sequence[StreamView]]  # of each stream, by window; None: no window
    fold: (
        Tensor | None
    )  # [num_tokens × num_heads] int64: the query rows as folded; None: no stream is
    unfold: Tensor | None  # the way back for the output

    @property
    def windows(self) -> frozenset[int | None]:
        """The windows that layers may have in this round."""
        return frozenset(self.views)

    @classmethod
    def of(
        cls,
        items: Sequence[RoundItem],
        block_tokens: int,
        heads: HeadShape,
        windows: Sequence[int | None],
        like: Tensor,
    ) -> RaggedLayout:
        """Lay a round out for masks of the device and dtype of `like`."""
        slots = [_slots(item, block_tokens) for item in items]
        new_slots = [
            some[item.num_cached_tokens :] for some, item in zip(slots, items, strict=True)
        ]
        fold = unfold = None
        if any(_is_folded(item, heads) for item in items):
            fold, unfold = (
                torch.from_numpy(rows).to(like.device) for rows in _folding(items, heads)
            )
        return cls(
            heads=heads,
            slots=torch.from_numpy(np.concatenate(new_slots)).to(like.device),
            num_query_rows=[len(item.token_ids) * heads.num_heads for item in items],
            views={
                window: [
                    _view(item, some, heads, window, like)
                    for item, some in zip(items, slots, strict=True)
                ]
                for window in windows
            },
            fold=fold,
            unfold=unfold,
        )


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
        from verifier.triton_attention import paged_attention

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


def _is_folded(item: RoundItem, heads: HeadShape) -> bool:
    return (
        heads.num_heads > heads.num_kv_heads
        and item.num_cached_tokens > 0  # else causal attention needs no mask
        and 1 < len(item.token_ids) <= _MAX_FOLDED_TOKENS
    )


def _slots(item: RoundItem, block_tokens: int) -> NDArray[np.int64]:
    """The slot of every token that the stream's last query may see."""
    positions = np.arange(item.context_tokens)
    blocks = np.asarray(item.block_table, dtype=np.int64)
    return blocks[positions // block_tokens] * block_tokens + positions % block_tokens


def _folding(
    items: Sequence[RoundItem], heads: HeadShape
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers that fold queries, and those that put the outputs back.

    A stream's query rows stand as (token, head), a head being (key head, member of its group);
    folded as (key head, member, token).  The output of a folded stream is (member, token, key
    head).
    """
    num_members = heads.num_heads // heads.num_kv_heads
    fold, unfold, start = [], [], 0
    for item in items:
        num_rows = len(item.token_ids) * heads.num_heads
        rows = np.arange(start, start + num_rows)
        start += num_rows
        if _is_folded(item, heads):
            by_head = rows.reshape(-1, heads.num_kv_heads, num_members)
            fold.append(by_head.transpose(1, 2, 0).ravel())
            by_member = rows.reshape(num_members, -1, heads.num_kv_heads)
            unfold.append(by_member.transpose(1, 2, 0).ravel())
        else:
            fold.append(rows)
            unfold.append(rows)
    return np.concatenate(fold), np.concatenate(unfold)


def _view(
    item: RoundItem,
    slots: NDArray[np.int64],
    heads: HeadShape,
    window: int | None,
    like: Tensor,
) -> StreamView:
    num_new, num_cached = len(item.token_ids), item.num_cached_tokens
    first = 0 if window is None else max(0, num_cached - window + 1)
    seen = slots[first:]
    is_run = bool(seen[-1] - seen[0] == len(seen) - 1 and (np.diff(seen) == 1).all())
    fits_window = window is None or num_new <= window
    is_causal = num_cached == 0 and num_new > 1 and fits_window
    is_folded = _is_folded(item, heads)
    mask = None
    if num_new > 1 and not is_causal:
        visible = _mask(num_new, len(seen), window)
        if is_folded:
            visible = np.tile(visible, (heads.num_heads // heads.num_kv_heads, 1))
        # In numpy: a small array costs torch's threads more to divide than to fill.
        mask = torch.from_numpy(visible).to(device=like.device, dtype=like.dtype)
    return StreamView(
        is_folded=is_folded,
        num_keys=len(seen),
        first_slot=int(seen[0]),
        slots=None if is_run else torch.from_numpy(seen).to(like.device),
        mask=mask,
        is_causal=is_causal,
    )


def _mask(num_new: int, num_keys: int, window: int | None) -> NDArray[np.float32]:
    """What the last `num_new` of `num_keys` tokens see: 0 or -inf [num_new, num_keys]."""
    keys = np.arange(num_keys)
    queries = keys[num_keys - num_new :, None]
    is_hidden = keys > queries
    if window is not None:
        is_hidden |= keys <= queries - window
    return np.where(is_hidden, np.float32(-np.inf), np.float32(0))
