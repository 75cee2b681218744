"""Where the tokens of a round stand and what each of them sees; laid out once, used by all layers.

This module must never decide which tokens a stream has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from verifier.target.round import RoundItem
from verifier.torch_target.kernels.head_shape import HeadShape

# Up to this many new tokens, the query heads that share a key head are folded into one matrix with
# them: one product where enable_gqa does one for each head. 5 tokens at context 300 of
# SmolLM2-135M: 51 instead of 63 microseconds (2 cores of an EPYC 9005, 2026-11). A mask for folded
# queries is larger by the heads in a group, which long prompts would feel.
_MAX_FOLDED_TOKENS = 64


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
    # [num_tokens × num_heads] int64: the query rows as folded; None: no stream is
    fold: Tensor | None
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
            stream_slots[item.num_cached_tokens :]
            for stream_slots, item in zip(slots, items, strict=True)
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
                    _view(item, stream_slots, heads, window, like)
                    for item, stream_slots in zip(items, slots, strict=True)
                ]
                for window in windows
            },
            fold=fold,
            unfold=unfold,
        )


def _slots(item: RoundItem, block_tokens: int) -> NDArray[np.int64]:
    """The slot of every token that the stream's last query may see."""
    positions = np.arange(item.context_tokens)
    blocks = np.asarray(item.block_table, dtype=np.int64)
    return blocks[positions // block_tokens] * block_tokens + positions % block_tokens


def _is_folded(item: RoundItem, heads: HeadShape) -> bool:
    return (
        heads.num_heads > heads.num_kv_heads
        and item.num_cached_tokens > 0  # else causal attention needs no mask
        and 1 < len(item.token_ids) <= _MAX_FOLDED_TOKENS
    )


def _folding(
    items: Sequence[RoundItem], heads: HeadShape
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers that fold queries, and those that put the outputs back.

    A stream's query rows stand as (token, head), a head being (key head, member of its group);
    folded as (key head, member, token). The output of a folded stream is (member, token, key
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
