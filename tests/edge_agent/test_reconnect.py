"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.reconnect import (
    FIRST_DELAY_SECONDS,
    HEALTHY_SECONDS,
    MAX_DELAY_SECONDS,
    REFUSED_DELAY_SECONDS,
    Backoff,
)


def test_delays_double_up_to_a_limit() -> None:
    backoff = Backoff()
    delays = [backoff.delay_seconds(1.0) for _ in range(9)]
    assert [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] == delays


def test_a_thousand_failures_are_not_too_many() -> None:
    backoff = Backoff()
    assert {MAX_DELAY_SECONDS} == {backoff.delay_seconds(1.0) for _ in range(5000)} - {
        FIRST_DELAY_SECONDS * 2**i for i in range(6)
    }


@given(jitter=st.floats(0, 1, exclude_max=True), num_failures=st.integers(0, 20))
def test_a_delay_is_a_random_part_of_the_longest(jitter: float, num_failures: int) -> None:
    backoff, longest = Backoff(), Backoff()
    for _ in range(num_failures):
        backoff.delay_seconds(0.0)
        longest.delay_seconds(0.0)
    assert jitter * longest.delay_seconds(1.0) == pytest.approx(backoff.delay_seconds(jitter))


def test_what_the_verifier_asks_for_is_a_minimum() -> None:
    assert 7.25 == Backoff().delay_seconds(0.5, 7.0)
    assert 7.0 == Backoff().delay_seconds(0.0, 7.0)


def test_a_refusal_waits_longest() -> None:
    assert REFUSED_DELAY_SECONDS / 2 == Backoff().delay_seconds(0.5, is_refused=True)


@pytest.mark.parametrize(("lived", "delay"), [(HEALTHY_SECONDS, 0.5), (59.9, 2.0)])
def test_only_a_healthy_connection_starts_the_delays_over(lived: float, delay: float) -> None:
    backoff = Backoff()
    backoff.delay_seconds(1.0)
    backoff.delay_seconds(1.0)
    backoff.connected(lived)
    assert delay == backoff.delay_seconds(1.0)


def test_the_first_failure_of_a_cycle_is_worth_a_warning() -> None:
    backoff = Backoff()
    seen = [backoff.is_first_failure]
    for _ in range(3):
        backoff.delay_seconds(0.0)
        seen.append(backoff.is_first_failure)
    backoff.connected(HEALTHY_SECONDS)
    backoff.delay_seconds(0.0)
    seen.append(backoff.is_first_failure)
    assert [False, True, False, False, True] == seen
