"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.link.backoff import (
    AWAITED_DELAY_SECONDS,
    FINAL_DELAY_SECONDS,
    FIRST_DELAY_SECONDS,
    LOADING_DELAY_SECONDS,
    MAX_DELAY_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
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


def test_a_verifier_that_loads_is_asked_again_at_once_and_that_is_no_failure() -> None:
    backoff = Backoff()
    delays = {backoff.delay_seconds(0.5, is_loading=True) for _ in range(1000)}
    assert {LOADING_DELAY_SECONDS / 2} == delays
    assert 1.0 == backoff.delay_seconds(0.0, 1.0, is_loading=True)
    assert FIRST_DELAY_SECONDS == backoff.delay_seconds(1.0)


def test_a_refusal_waits_longest() -> None:
    assert REFUSED_DELAY_SECONDS / 2 == Backoff().delay_seconds(0.5, is_refused=True)


def test_what_is_final_is_tried_again_after_minutes() -> None:
    backoff = Backoff()
    delays = [backoff.delay_seconds(jitter, is_final=True) for jitter in (0.0, 0.5, 0.5)]
    assert [FINAL_DELAY_SECONDS * part for part in (0.5, 0.75, 0.75)] == delays
    assert FIRST_DELAY_SECONDS == backoff.delay_seconds(1.0)


def failed(num_failures: int) -> Backoff:
    backoff = Backoff()
    for _ in range(num_failures):
        backoff.delay_seconds(1.0)
    return backoff


@pytest.mark.parametrize(
    ("lived", "delay"), [(0.0, 4.0), (0.99, 4.0), (1.0, 2.0), (2.5, 1.0), (3.0, 0.5), (600.0, 0.5)]
)
def test_every_second_of_a_connection_makes_up_for_a_failure(lived: float, delay: float) -> None:
    backoff = failed(3)
    backoff.record_connection(lived)
    assert delay == backoff.delay_seconds(1.0)


def test_after_an_outage_of_any_length_seven_seconds_are_enough() -> None:
    backoff = failed(1000)
    backoff.record_connection(7.0)
    assert FIRST_DELAY_SECONDS == backoff.delay_seconds(1.0)


@given(lived=st.floats(0, 1, exclude_max=True))
def test_a_link_that_breaks_at_once_is_tried_less_and_less_often(lived: float) -> None:
    backoff = Backoff()
    delays = []
    for _ in range(8):
        backoff.record_connection(lived)
        delays.append(backoff.delay_seconds(1.0))
    assert sorted(delays) == delays
    assert MAX_DELAY_SECONDS == delays[-1]


def test_a_link_that_breaks_now_and_then_is_back_at_once() -> None:
    backoff = Backoff()
    for _ in range(100):
        backoff.record_connection(1.0)
        assert backoff.delay_seconds(1.0) <= 1.0


def test_what_the_verifier_asks_for_has_a_limit() -> None:
    assert MAX_RETRY_AFTER_SECONDS == Backoff().delay_seconds(0.0, 1e12)


def test_while_somebody_waits_the_verifier_is_looked_for_all_the_time() -> None:
    backoff = Backoff()
    delays = [backoff.delay_seconds(1.0, is_awaited=True) for _ in range(100)]
    assert [FIRST_DELAY_SECONDS, *[AWAITED_DELAY_SECONDS] * 99] == delays
    assert AWAITED_DELAY_SECONDS < backoff.delay_seconds(1.0)


def test_a_refusal_is_waited_for_whoever_waits() -> None:
    assert REFUSED_DELAY_SECONDS == Backoff().delay_seconds(1.0, is_refused=True, is_awaited=True)
