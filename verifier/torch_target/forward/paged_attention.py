"""Attention of a round on a GPU: keys and values are stored and read by our kernels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import pad

from verifier.torch_target.forward.block_cache import BlockCache
from verifier.torch_target.kernels.attention import paged_attention
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.heads import HeadForm, rotate_and_store
from verifier.torch_target.kernels.layers import store
from verifier.torch_target.kernels.paged_layout import PagedLayout
from verifier.torch_target.kernels.row_quantisation import ScaledSums, with_scales
from verifier.torch_target.kernels.score_rule import ScoreRule


@dataclass(frozen=True, slots=True)
class PagedAttention:
    """Implements `RoundAttention` and `ProjectedAttention`."""

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
        rule: ScoreRule,
    ) -> Tensor:
        value_size = value.shape[3]
        if value_size < key.shape[3]:  # the kernels know one size
            value = pad(value, (0, key.shape[3] - value_size))
        keys, values = self.cache.of_layer(layer, key, value)
        store(key, value, keys, values, self.layout.slots)
        output = paged_attention(query[0], keys, values, self.layout, rule)
        return output[None, :, :, :value_size]

    def attend_projected(
        self,
        layer: int,
        projected: Tensor | ScaledSums,
        form: HeadForm,
        angles: tuple[Tensor, Tensor],
        rule: ScoreRule,
    ) -> Tensor:
        """As `attend`, of heads that are still to be normed and rotated (`ProjectedAttention`)."""
        _, key, value = form.query_key_value(with_scales(projected).values)
        keys, values = self.cache.of_layer(
            layer, key.transpose(0, 1)[None], value.transpose(0, 1)[None]
        )
        cos, sin = angles
        slots = self.layout.slots
        query = rotate_and_store(projected, form, cos[0], sin[0], keys, values, slots)
        return paged_attention(query.transpose(0, 1), keys, values, self.layout, rule)[None]
