"""Which draft tokens are right: drawn once for each position of a text, whatever is drafted when.

So a token that is drafted again is what it was, and two policies meet the same texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

from shared.speculation.confidence import UNKNOWN_CONFIDENCE, confidence_of_probability


class Acceptance(Protocol):
    """The texts of one stream."""

    def is_right(self, position: int, depth: int, now: float) -> bool:
        """Whether the draft model's token at a position is the target's own.

        `depth`: how many tokens before it are drafted too.
        """
        ...

    def confidence(self, position: int) -> int:
        """How sure the draft model says that it is there (`shared.speculation.confidence`)."""
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
        rate = self._rates[depth] if depth < len(self._rates) else self._rates[-1]
        for since, changed in self._changes:
            if now >= since:
                rate = changed
        return draws[position] < rate

    def confidence(self, position: int) -> int:
        """See `Acceptance`; it would tell nothing."""
        return UNKNOWN_CONFIDENCE


class CorrelatedAcceptance:
    """How sure the draft model is stays for a while, and tells how often it is right."""

    __slots__ = (
        *("_bytes", "_confidences", "_is_right", "_level"),
        *("_persistence", "_random", "_rates", "_shares"),
    )

    def __init__(
        self, rates: Sequence[float], shares: Sequence[float], persistence: float, random: Random
    ) -> None:
        self._rates = tuple(rates)
        self._shares = tuple(shares)
        self._persistence = persistence
        self._random = random
        self._is_right: list[bool] = []
        self._confidences = bytearray()
        # A model that knows itself; the verifier learns by itself what it is worth.
        self._bytes = [confidence_of_probability(rate) for rate in rates]
        self._level = self._draw_level()

    def is_right(self, position: int, depth: int, now: float) -> bool:
        """See `Acceptance`."""
        self._go_on_to(position)
        return self._is_right[position]

    def confidence(self, position: int) -> int:
        """See `Acceptance`."""
        self._go_on_to(position)
        return self._confidences[position]

    def _go_on_to(self, position: int) -> None:
        while len(self._is_right) <= position:
            self._confidences.append(self._bytes[self._level])
            self._is_right.append(self._random.random() < self._rates[self._level])
            if self._random.random() >= self._persistence:
                self._level = self._draw_level()

    def _draw_level(self) -> int:
        return self._random.choices(range(len(self._rates)), self._shares)[0]


class ReplayedAcceptance:
    """What was recorded, from a place on, over and over."""

    __slots__ = ("_confidences", "_start", "_trace")

    def __init__(self, trace: Sequence[bool], confidences: bytes, start: int) -> None:
        """`confidences` are as many; see `shared.speculation.confidence`."""
        self._trace = trace
        self._confidences = confidences
        self._start = start

    def is_right(self, position: int, depth: int, now: float) -> bool:
        """See `Acceptance`."""
        return self._trace[(self._start + position) % len(self._trace)]

    def confidence(self, position: int) -> int:
        """See `Acceptance`."""
        return self._confidences[(self._start + position) % len(self._trace)]
