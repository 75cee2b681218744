"""Which draft tokens are right: drawn once for each position of a text, whatever is drafted when.

So a token that is drafted again is what it was, and two policies meet the same texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol


class Acceptance(Protocol):
    """The texts of one stream."""

    def is_right(self, position: int, depth: int, now: float) -> bool:
        """Whether the draft model's token at a position is the target's own.

        `depth`: how many tokens before it are drafted too.
        """
        ...


class IndependentAcceptance:
    """Each token is right with the same chance, or one that hangs on its depth or on the time."""

    __slots__ = ("_changes", "_draws", "_random", "_rates")

    def __init__(
        self, rates: Sequence[float], changes: Sequence[tuple[float, float]], random: Random
    ) -> None:
        """`rates` by depth, the last one goes on; `changes`: since when another one holds."""
        self._rates = tuple(rates)
        self._changes = tuple(changes)
        self._random = random
        self._draws: list[float] = []

    def is_right(self, position: int, depth: int, now: float) -> bool:
        """See `Acceptance`."""
        draws = self._draws
        while len(draws) <= position:
            draws.append(self._random.random())
        rate = self._rates[min(depth, len(self._rates) - 1)]
        for since, changed in self._changes:
            if now >= since:
                rate = changed
        return draws[position] < rate


class CorrelatedAcceptance:
    """How sure the draft model is stays for a while, and tells how often it is right."""

    __slots__ = ("_is_right", "_level", "_persistence", "_random", "_rates", "_shares")

    def __init__(
        self, rates: Sequence[float], shares: Sequence[float], persistence: float, random: Random
    ) -> None:
        self._rates = tuple(rates)
        self._shares = tuple(shares)
        self._persistence = persistence
        self._random = random
        self._is_right: list[bool] = []
        self._level = self._draw_level()

    def is_right(self, position: int, depth: int, now: float) -> bool:
        """See `Acceptance`."""
        while len(self._is_right) <= position:
            self._is_right.append(self._random.random() < self._rates[self._level])
            if self._random.random() >= self._persistence:
                self._level = self._draw_level()
        return self._is_right[position]

    def _draw_level(self) -> int:
        return self._random.choices(range(len(self._rates)), self._shares)[0]


class ReplayedAcceptance:
    """What was recorded, from a place on that is drawn, over and over."""

    __slots__ = ("_start", "_trace")

    def __init__(self, trace: Sequence[bool], random: Random) -> None:
        self._trace = trace
        self._start = random.randrange(len(trace))

    def is_right(self, position: int, depth: int, now: float) -> bool:
        """See `Acceptance`."""
        return self._trace[(self._start + position) % len(self._trace)]
