"""Whether one of two ways is faster: pairs of rates measured in turn, looked at after every pair.

Log ratios of neighbouring stretches of rounds, so that what changes slowly (contexts, prompts, what
else a machine does) meets both sides. Pure. This module must never know what is compared.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum

# What pairs are believed to deviate by before any was seen, and how many that belief is worth: two
# that agree by chance prove nothing. Of blocks of 16 rounds it is 0.05 to 0.2.
PRIOR_DEVIATION = 0.1
PRIOR_PAIRS = 3
# Pairs that count; older ones are of another time.
MOST_PAIRS = 48
LEAST_PAIRS = 2
# Rates of one way that wait for one of the other.
MOST_UNPAIRED = 4

# Student's t that is exceeded once in 300, from 3 degrees of freedom on, and of 50. It is looked at
# after every pair, so a whole test errs more often: test_paired_test.py says how often.
_T_BY_FREEDOM = (
    *(6.74, 5.17, 4.46, 4.06, 3.81, 3.63, 3.51, 3.41, 3.33, 3.27),
    *(3.22, 3.18, 3.15, 3.12, 3.09, 3.07, 3.05, 3.03, 3.01),
)
_FIRST_FREEDOM = PRIOR_PAIRS
_T_OF_MORE = 2.92  # of 30


class Finding(Enum):
    """What pairs prove so far."""

    NOTHING = "nothing"
    FASTER = "faster"
    SLOWER = "slower"


class PairedTest:
    """Log ratios, and whether their mean is surely above or below 0."""

    __slots__ = ("_least_pairs", "_log_ratios", "_prior_deviation")

    def __init__(
        self, least_pairs: int = LEAST_PAIRS, prior_deviation: float = PRIOR_DEVIATION
    ) -> None:
        """Of `least_pairs` at least, that are believed to deviate so before any was seen."""
        self._least_pairs, self._prior_deviation = least_pairs, prior_deviation
        self._log_ratios: deque[float] = deque(maxlen=MOST_PAIRS)

    def __len__(self) -> int:
        return len(self._log_ratios)

    def add(self, log_ratio: float) -> None:
        """Another pair."""
        self._log_ratios.append(log_ratio)

    @property
    def mean(self) -> float:
        """Of the log ratios; 0 of none."""
        return sum(self._log_ratios) / len(self) if self._log_ratios else 0.0

    @property
    def margin(self) -> float:
        """How far the true mean may lie from this one; inf where nothing can be said."""
        num_pairs = len(self)
        if num_pairs < self._least_pairs:
            return math.inf
        mean = self.mean
        squares = sum([(one - mean) ** 2 for one in self._log_ratios])
        freedom = PRIOR_PAIRS + num_pairs - 1
        variance = (PRIOR_PAIRS * self._prior_deviation**2 + squares) / freedom
        return _quantile(freedom) * math.sqrt(variance / num_pairs)

    @property
    def finding(self) -> Finding:
        """What is proven."""
        margin = self.margin
        if self.mean > margin:
            return Finding.FASTER
        return Finding.SLOWER if self.mean < -margin else Finding.NOTHING


class PairedRates:
    """Rates of two ways as they come, not always in turn; each two of them make a pair."""

    __slots__ = ("_ours", "_theirs", "num_pairs", "pairs")

    def __init__(self) -> None:
        self.pairs = PairedTest()
        self.num_pairs = 0
        """Of all time; `pairs` forgets."""
        self._ours: deque[float] = deque(maxlen=MOST_UNPAIRED)
        self._theirs: deque[float] = deque(maxlen=MOST_UNPAIRED)

    def add(self, rate: float, *, is_ours: bool) -> None:
        """Another rate, above 0; the log ratios are of ours over theirs."""
        (self._ours if is_ours else self._theirs).append(math.log(rate))
        if self._ours and self._theirs:
            self.num_pairs += 1
            self.pairs.add(self._ours.popleft() - self._theirs.popleft())


def _quantile(freedom: int) -> float:
    place = freedom - _FIRST_FREEDOM
    return _T_BY_FREEDOM[place] if place < len(_T_BY_FREEDOM) else _T_OF_MORE
