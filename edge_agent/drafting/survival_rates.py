"""How often draft tokens survive, by what was known before they were drafted; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

# What was believed before counts like this many tokens: two dozen real ones outweigh it.
_PRIOR_TOKENS = 8.0
# Older tokens fade: the newest 64 or so say how a text goes at the moment.
_KEPT = 1.0 - 1.0 / 64


class SurvivalRates:
    """A survival rate for each *grade*, a small number such as the tokens that an n-gram matched.

    A stream's rates start from those of its device (`before`), which learn from all its streams;
    a device's start from `initial`.
    """

    __slots__ = ("_before", "_initial", "_survived", "_tried")

    def __init__(self, initial: Sequence[float], before: SurvivalRates | None = None) -> None:
        self._initial = tuple(initial)
        self._before = before
        self._tried = [0.0] * len(initial)
        self._survived = [0.0] * len(initial)

    def rate(self, grade: int) -> float:
        """The chance that the next token of this grade survives, within (0, 1)."""
        before = self._before.rate(grade) if self._before is not None else self._initial[grade]
        survived = self._survived[grade] + _PRIOR_TOKENS * before
        return survived / (self._tried[grade] + _PRIOR_TOKENS)

    def highest_rate(self, grade: int) -> float:
        """As high as the rate may well be: one standard deviation above what was seen."""
        rate = self.rate(grade)
        return rate + math.sqrt(rate * (1.0 - rate) / (self._tried[grade] + _PRIOR_TOKENS))

    def observe(self, grade: int, *, survived: bool) -> None:
        """A token of this grade met the target."""
        self._tried[grade] = self._tried[grade] * _KEPT + 1.0
        self._survived[grade] = self._survived[grade] * _KEPT + survived
        if self._before is not None:
            self._before.observe(grade, survived=survived)

    def branch(self) -> SurvivalRates:
        """The rates of a new stream of this device."""
        return SurvivalRates(self._initial, before=self)
