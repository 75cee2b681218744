"""A figure over paired seeds: its mean, and how far single seeds lie from it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np


class Spread(msgspec.Struct, frozen=True):
    """Of one figure."""

    mean: float
    least: float
    most: float
    num_seeds: int

    def percent(self, digits: int = 1) -> str:
        """As a change: −31.6 % (−32.0 … −31.1)."""
        mean, least, most = (_signed(100.0 * x, digits) for x in (self.mean, self.least, self.most))
        return f"{mean} % ({least} … {most})"

    def number(self, digits: int) -> str:
        """As a number: 1.23 (1.20 … 1.25)."""
        mean, least, most = (f"{x:.{digits}f}" for x in (self.mean, self.least, self.most))
        return f"{mean} ({least} … {most})".replace("-", "−")


def spread_of(values: Sequence[float]) -> Spread:
    """Over one value a seed."""
    return Spread(float(np.mean(values)), min(values), max(values), len(values))


def changes(values: Sequence[float], rivals: Sequence[float]) -> Spread:
    """By which part each value differs from the rival's on the same seed."""
    return spread_of([value / rival - 1.0 for value, rival in zip(values, rivals, strict=True)])


def _signed(value: float, digits: int) -> str:
    rounded = round(value, digits) + 0.0  # no −0.0
    return f"{rounded:+.{digits}f}".replace("-", "−")
