"""What a root-mean-square norm of a model multiplies by."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class NormForm:
    """One norm: x over its root mean square, times `weight` or 1 + `weight`."""

    weight: Tensor  # [size]
    epsilon: float
    adds_one: bool
