"""Several linear layers of one input as one matrix product.

A model calls its query, key and value projections one after the other with the same tensor; the
first call computes all of them, the others hand their part out. The weights move into one
matrix, and the projections keep views of it, so no memory is spent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # of inputs, weight and bias


class MergedProduct:
    """One product for several projections of one input, and the part of each."""

    def __init__(self, sizes: Sequence[int], product: Callable[[Tensor], Tensor]) -> None:
        """`product` gives the outputs of projections of these sizes side by side."""
        self.sizes = list(sizes)
        self.whole: Callable[..., Tensor] = product  # what it takes is the product's
        self._input: Tensor | None = None
        self._parts: Sequence[Tensor] = ()

    def part(self, number: int, x: Tensor) -> Tensor:
        """The output of one projection."""
        if number == 0 or x is not self._input:
            self._input, self._parts = x, torch.split(self.whole(x), self.sizes, dim=-1)
        part = self._parts[number]
        if number == len(self.sizes) - 1:
            self._input, self._parts = None, ()
        return part


class MergedLinear(MergedProduct):
    """Of plain linear layers; not a module, so that no weight is listed twice."""

    def __init__(self, projections: Sequence[nn.Linear], product: Product = linear) -> None:
        """Take the weights over; the projections' own become views."""
        super().__init__([projection.out_features for projection in projections], self._multiply)
        self._product = product
        with torch.no_grad():
            self._weight = torch.cat([projection.weight for projection in projections])
            biases = [_bias_of(projection) for projection in projections]
            given = [bias for bias in biases if bias is not None]
            self._bias = torch.cat(given) if given else None
            for projection, part in zip(
                projections, torch.split(self._weight, self.sizes), strict=True
            ):
                projection.weight = nn.Parameter(part, requires_grad=False)

    def _multiply(self, x: Tensor) -> Tensor:
        return self._product(x, self._weight, self._bias)


def can_merge(projections: Sequence[nn.Module | None]) -> bool:
    """Whether they are plain linear layers of one input size, all with a bias or none."""
    plain = [projection for projection in projections if type(projection) is nn.Linear]
    return (
        len(plain) == len(projections)
        and len({projection.in_features for projection in plain}) == 1
        and len({_bias_of(projection) is None for projection in plain}) == 1
    )


def _bias_of(projection: nn.Linear) -> Tensor | None:
    bias: Tensor | None = projection.bias  # annotated as if there always were one
    return bias
