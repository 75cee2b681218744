"""Reading and fitting a table of measured times between its lines; shared by the two tables.

This module must never know what a line stands for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from shared.errors import ModelError
from shared.speculation.goodput import FloatArray


def along(lower: float, upper: float, fraction: float) -> float:
    """Interpolate; after the second point a falling line goes on level instead."""
    inside = min(fraction, 1.0)
    slope = upper - lower
    return lower + slope * inside + max(slope, 0.0) * (fraction - inside)


def segment(lines: Sequence[int], value: float) -> tuple[int, float]:
    """The grid line to start from and how far along to the next, above 1 beyond the last."""
    if len(lines) == 1:
        return 0, 0.0
    index = min(max(bisect_right(lines, value) - 1, 0), len(lines) - 2)
    return index, max((value - lines[index]) / (lines[index + 1] - lines[index]), 0.0)


def nearness(lines: Sequence[int], value: float) -> FloatArray:
    """The interpolation weights of all grid lines; they sum to 1."""
    index, fraction = segment(lines, value)
    weights = np.zeros(len(lines))
    weights[index] = 1.0
    if len(lines) > 1:
        weights[index + 1] = min(fraction, 1.0)
        weights[index] -= weights[index + 1]
    return weights


def isotonic(values: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest in squares (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []  # mean, number of values
    for value in values:
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            earlier_mean, earlier_count = pools.pop()
            mean = (earlier_mean * earlier_count + mean * count) / (earlier_count + count)
            count += earlier_count
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]


def check_lines(name: str, lines: Sequence[int], fewest: int, most: int) -> None:
    """Raises: `ModelError` if a table's lines are too few, too many, or do not ascend."""
    if not fewest <= len(lines) <= most:
        raise ModelError(f"cost curve has {len(lines)} {name}, not {fewest} to {most}")
    if lines[0] < 0 or any(after <= before for before, after in pairwise(lines)):
        raise ModelError(f"{name} of a cost curve must ascend from 0 or more")
