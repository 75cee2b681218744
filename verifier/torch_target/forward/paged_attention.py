"""Attention of a round on a GPU: keys and values are stored and read by our kernels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from verifier.torch_target.forward.block_cache import BlockCache
from verifier.torch_target.kernels.attention import paged_attention
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.layers import store
from verifier.torch_target.kernels.paged_layout import PagedLayout


@dataclass(frozen=True, slots=True)
class PagedAttention:
    """Implements `RoundAttention`."""

    layout: PagedLayout
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
        window: int | None,
        scale: float | None,
    ) -> Tensor:
        keys, values = self.cache.of_layer(layer, key, value)
        store(key, value, keys, values, self.layout.slots)
        scale = query.shape[3] ** -0.5 if scale is None else scale
        return paged_attention(query[0], keys, values, self.layout, window, scale)[None]
