"""Durations counted in buckets of equal ratio: any number of samples in bounded memory.

Pure. This module must never read a clock.
"""

from __future__ import annotations

import math

# Neighbouring bounds differ by this part, and so does a quantile from the sample it stands for.
PRECISION = 0.02
SHORTEST_SECONDS = 1e-5
LONGEST_SECONDS = 1e4

_LOG_RATIO = math.log1p(PRECISION)
_NUM_BUCKETS = 1 + math.ceil(math.log(LONGEST_SECONDS / SHORTEST_SECONDS) / _LOG_RATIO)


class LatencyHistogram:
    """Quantiles of durations, exact to 2 %."""

    __slots__ = ("_counts", "num_samples")

    def __init__(self) -> None:
        self.num_samples = 0
        self._counts = [0] * _NUM_BUCKETS

    def observe(self, seconds: float) -> None:
        """Count one duration; those out of range count as the shortest or longest."""
        inside = min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)
        self._counts[int(math.log(inside / SHORTEST_SECONDS) / _LOG_RATIO)] += 1
        self.num_samples += 1

    def quantile(self, share: float) -> float | None:
        """Seconds that this part of the samples does not exceed; None without samples."""
        num_left = max(math.ceil(share * self.num_samples), 1)
        for i, count in enumerate(self._counts):
            num_left -= count
            if num_left <= 0:
                return SHORTEST_SECONDS * math.exp((i + 0.5) * _LOG_RATIO)
        return None
