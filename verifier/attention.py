"""Our attention in a stock transformers model: one row of tokens, many streams, keys in blocks.

`verifier.torch_target` hands a `RaggedLayout` through the model's keyword arguments to every layer.
All that can be worked out once a round is in the layout; a layer only copies, multiplies and
stores.  This module must never know what a token is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from shared.errors import ModelError
from verifier.target import RoundItem

ATTENTION_NAME = "goodspeed"


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer, one slot a token; block b holds slots b * block_tokens on."""

    keys: Tensor  # [num_kv_heads, num_slots, head_size]
    values: Tensor  # [num_kv_heads, num_slots, head_size]


@dataclass(frozen=True, slots=True)
class Segment:
    """One stream's part of the row."""

    rows: slice  # its new tokens in the row
    num_cached_tokens: int
    slots: slice | Tensor  # of all its tokens; a slice where its blocks are neighbours

    @property
    def num_new_tokens(self) -> int:
        return int(self.rows.stop - self.rows.start)

    @property
    def context_tokens(self) -> int:
        return self.num_cached_tokens + self.num_new_tokens


@dataclass(frozen=True, slots=True)
class RaggedLayout:
    """Where a round's tokens are, worked out once and read by every layer."""

    caches: Sequence[LayerCache]
    segments: tuple[Segment, ...]
    new_slots: Tensor  # [num_tokens] int64; where new keys and values go
    _masks: dict[tuple[int | None, int], list[Tensor | None]] = field(default_factory=dict)

    def masks(self, like: Tensor, window: int | None, num_groups: int) -> list[Tensor | None]:
        """For each segment [num_groups * new tokens, context] additive; None: all may be seen."""
        key = (window, num_groups)
        if key not in self._masks:
            self._masks[key] = [_mask(s, like, window, num_groups) for s in self.segments]
        return self._masks[key]


def make_layout(
    items: Sequence[RoundItem], caches: Sequence[LayerCache], block_tokens: int
) -> RaggedLayout:
    """The layout of a round whose items stand in the row one after the other."""
    device = caches[0].keys.device
    segments = []
    new_slots: list[int] = []
    start = 0
    for item in items:
        end = start + len(item.token_ids)
        slots = _slots(item.block_table, item.context_tokens, block_tokens)
        new_slots.extend(slots[item.num_cached_tokens :])
        whole = slots if isinstance(slots, range) else torch.tensor(slots, device=device)
        segments.append(
            Segment(
                rows=slice(start, end),
                num_cached_tokens=item.num_cached_tokens,
                slots=slice(whole.start, whole.stop) if isinstance(whole, range) else whole,
            )
        )
        start = end
    return RaggedLayout(caches, tuple(segments), torch.tensor(new_slots, device=device))


def ragged_attention(
    module: nn.Module,
    query: Tensor,  # [1, num_heads, num_tokens, head_size]
    key: Tensor,  # [1, num_kv_heads, num_tokens, head_size]
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    ragged_layout: RaggedLayout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Write the new keys and values, then attend; returns [1, num_tokens, num_heads, head_size]."""
    if softcap is not None:
        raise ModelError(f"attention with a soft cap of {softcap} is not supported")
    layer = module.layer_idx
    assert isinstance(layer, int)
    cache = ragged_layout.caches[layer]
    cache.keys[:, ragged_layout.new_slots] = key[0]
    cache.values[:, ragged_layout.new_slots] = value[0]
    num_kv_heads = key.shape[1]
    # The heads of a group share keys: they become more queries of one head, no key is copied.
    num_groups = query.shape[1] // num_kv_heads
    grouped = query[0].reshape(num_kv_heads, num_groups, *query.shape[2:])
    masks = ragged_layout.masks(query, sliding_window, num_groups)
    outputs = []
    for segment, mask in zip(ragged_layout.segments, masks, strict=True):
        attended = nn.functional.scaled_dot_product_attention(
            grouped[:, :, segment.rows].flatten(1, 2)[None],
            cache.keys[:, segment.slots][None],
            cache.values[:, segment.slots][None],
            attn_mask=mask,
            scale=scaling,
        )
        outputs.append(attended[0].reshape(num_kv_heads, num_groups, -1, query.shape[3]))
    whole = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return whole.flatten(0, 1).transpose(0, 1)[None], None


def register_attention() -> None:
    """Make `attn_implementation="goodspeed"` known to transformers."""
    AttentionInterface.register(ATTENTION_NAME, ragged_attention)
    AttentionMaskInterface.register(ATTENTION_NAME, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    """The layout has the masks; transformers is to build none."""


def _slots(table: Sequence[int], num_tokens: int, block_tokens: int) -> range | list[int]:
    first = table[0]
    if all(block == first + i for i, block in enumerate(table)):
        return range(first * block_tokens, first * block_tokens + num_tokens)
    return [table[i // block_tokens] * block_tokens + i % block_tokens for i in range(num_tokens)]


def _mask(segment: Segment, like: Tensor, window: int | None, num_groups: int) -> Tensor | None:
    context = segment.context_tokens
    reaches_back = window is None or context <= window
    if segment.num_new_tokens == 1 and reaches_back:
        return None
    seen = torch.arange(context, device=like.device)[None]
    own = torch.arange(segment.num_cached_tokens, context, device=like.device)[:, None]
    hidden = seen > own
    if window is not None:
        hidden |= seen <= own - window
    mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    mask.masked_fill_(hidden, -torch.inf)
    return mask.repeat(num_groups, 1)
