"""Linear layers whose weights and product are a library's, alone or several of one input as one.

The library's layer is no submodule, so that `Module.to` does not widen its weights. This module
must never know which library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from verifier.torch_target.layers.merged_projections import MergedProduct


class WeightOnlyLinear(nn.Module):
    """A linear layer that holds no weight of its own."""

    def __init__(
        self, product: Callable[..., Tensor], in_features: int, out_features: int, like: Tensor
    ) -> None:
        """`product` maps [..., in_features] to [..., out_features]; both are like `like`."""
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.like = like.detach()  # [0]; no buffer, for it goes where the weights went
        self.product = product

    def forward(self, rows: Any) -> Tensor:
        """As `nn.Linear`, with the weights as they are kept; `rows` are what the product takes."""
        return self.product(rows)


class MergedPart(WeightOnlyLinear):
    """One of several projections whose outputs are parts of one product."""

    def __init__(
        self, merged: MergedProduct, number: int, in_features: int, out_features: int, like: Tensor
    ) -> None:
        super().__init__(lambda rows: merged.part(number, rows), in_features, out_features, like)
        self.merged = merged


def merged_of(projections: list[nn.Module | None]) -> MergedProduct | None:
    """The product whose parts these projections are, all of them; None: there is none."""
    first = projections[0]
    if not isinstance(first, MergedPart):
        return None
    parts = [part for part in projections if isinstance(part, MergedPart)]
    is_whole = len(parts) == len(projections) == len(first.merged.sizes)
    return first.merged if is_whole and all(p.merged is first.merged for p in parts) else None
