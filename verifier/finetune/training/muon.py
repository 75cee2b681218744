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
        for weight, momentum in zip(self._weights, self.momentum, strict=True):
            assert weight.grad is not None
            momentum.lerp_(weight.grad, 1 - _MOMENTUM)
            direction = orthogonal(weight.grad.lerp(momentum, _MOMENTUM))  # Nesterov's
            weight.sub_(direction * (self.rate * (_SCALE * max(weight.shape[1:]) ** 0.5)))


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices whose singular values are near 1, by Newton-Schulz iterations."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.bfloat16()
    found = found.mT if is_tall else found
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ROUNDS):
        square = found @ found.mT
        found = first * found + (third * square + fifth * square @ square) @ found
    direction: Tensor = found.mT if is_tall else found
    return direction.to(matrices.dtype)
