"""How evenly and how well a fleet is served, as single numbers for reports and metrics.

This module must never influence a decision of the scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def jain_index(goodputs: Sequence[float]) -> float:
    """(sum x)^2 / (N * sum x^2): 1 if all are equal, 1/N if one has everything.

    No values, or zeros alone, count as equal (Jain, Chiu, Hawe 1984).
    """
    largest = max(goodputs, default=0.0)
    if largest == 0.0:
        return 1.0
    scaled = [goodput / largest for goodput in goodputs]  # squares of tiny values would vanish
    return math.fsum(scaled) ** 2 / (len(scaled) * math.fsum(share * share for share in scaled))


def log_utility(goodputs: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """U = sum of w log x over devices, x summed over a device's streams (weights 1 if none).

    Minus infinity if a device got nothing (GoodSpeed, arXiv 2512.09963, equation 1).
    """
    if any(goodput == 0.0 for goodput in goodputs):
        return -math.inf
    weights = [1.0] * len(goodputs) if weights is None else weights
    return math.fsum(
        weight * math.log(goodput) for weight, goodput in zip(weights, goodputs, strict=True)
    )
