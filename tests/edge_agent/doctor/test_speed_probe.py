"""Measuring a drafter, by a clock that the drafter itself moves on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.doctor.speed_probe import measure_each, measure_speed
from edge_agent.draft_model.drafter import Drafter, Forward
from tests.support.ends.scripted import board


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TimedDrafter:
    """A drafter that takes so many seconds for each token, of a clock in the test's hands."""

    def __init__(self, clock: Clock, token_seconds: float) -> None:
        self._own = board(num_slots=1)
        self._clock = clock
        self._token_seconds = token_seconds
        self.is_closed = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._own, name)

    def forward(self, batch: Sequence[Forward]) -> list[NDArray[np.float32] | None]:
        self._clock.now += self._token_seconds
        return self._own.forward(batch)

    def close(self) -> None:
        self.is_closed = True


def timed(clock: Clock, token_seconds: float) -> Drafter:
    return TimedDrafter(clock, token_seconds)  # type: ignore[return-value]


def test_the_warm_up_does_not_count() -> None:
    clock = Clock()
    drafter = timed(clock, 0.25)
    assert 4.0 == measure_speed(drafter, 1.0, clock)
    assert 1.25 == clock.now
    assert 0 == drafter.num_tokens(0)


def test_a_slow_board_drafts_four_tokens_at_least() -> None:
    clock = Clock()
    assert 0.5 == measure_speed(timed(clock, 2.0), 1.0, clock)
    assert 10.0 == clock.now


def test_a_fast_board_ends_with_its_context() -> None:
    clock = Clock()
    assert measure_speed(timed(clock, 1 / 4096), 1.0, clock) > 4095


def test_each_is_measured_and_closed_until_the_deadline() -> None:
    clock = Clock()
    made: list[Drafter] = []

    def load(tokens_per_second: int) -> Drafter:
        made.append(timed(clock, 1 / tokens_per_second))
        return made[-1]

    assert {4: 4.0, 8: 8.0} == measure_each((4, 8, 16), load, 1.0, deadline=2.0, now=clock)
    assert [True, True] == [drafter.is_closed for drafter in made]  # type: ignore[attr-defined]


def test_the_first_is_measured_in_any_case() -> None:
    clock = Clock()
    assert {4: 4.0} == measure_each((4, 8), lambda n: timed(clock, 1 / n), 1.0, 0.0, clock)
