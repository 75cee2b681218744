"""Muon: momentum whose matrices are made orthogonal before they change the weights.

Keller Jordan 2024 (kellerjordan.github.io/posts/muon); the scale is that of Liu et al. 2025
(arXiv 2502.16982), with which AdamW's learning rates fit.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_ROUNDS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_SCALE = 0.2


class Muon:
    """Of stacks of matrices [layers, outputs, inputs]; its rate is a tensor that graphs read."""

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        self._weights = list(weights)
        self.momentum = [torch.zeros_like(weight) for weight in self._weights]
        self.rate = torch.zeros((), device=self._weights[0].device)

    @torch.no_grad()
    def step(self) -> None:
        """Change all weights by their gradients."""
        directions: dict[int, Tensor] = {}
        for together in self._alike():
            moved = []
            for index in together:
                gradient, momentum = self._weights[index].grad, self.momentum[index]
                assert gradient is not None
                momentum.lerp_(gradient, 1 - _MOMENTUM)
                moved.append(_wide(gradient.lerp(momentum, _MOMENTUM)))  # Nesterov's
            layers = [len(one) for one in moved]
            found = torch.split(orthogonal(torch.cat(moved)), layers)
            directions |= dict(zip(together, found, strict=True))
        for index, direction in directions.items():
            weight = self._weights[index]
            if direction.shape != weight.shape:
                direction = direction.mT
            weight.sub_(direction * (self.rate * (_SCALE * max(weight.shape[1:]) ** 0.5)))

    def _alike(self) -> list[list[int]]:
        """Stacks of matrices of one size, lying or standing, go through the products together."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, weight in enumerate(self._weights):
            groups.setdefault(tuple(sorted(weight.shape[1:])), []).append(index)
        return list(groups.values())


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices whose singular values are near 1, by Newton-Schulz iterations.

    As many columns as rows at least: products of rows are the smaller ones.
    """
    found = matrices.bfloat16()
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ROUNDS):
        square = found @ found.mT
        polynomial = torch.baddbmm(square, square, square, beta=third, alpha=fifth)
        found = torch.baddbmm(found, polynomial, found, beta=first)
    return found.to(matrices.dtype)


def _wide(matrices: Tensor) -> Tensor:
    return matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
