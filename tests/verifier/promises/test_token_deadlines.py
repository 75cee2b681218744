"""A reader of one token every s seconds waits for no token that is called in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from verifier.promises.token_deadlines import SAME_SECONDS, TokenDeadlines


def test_the_first_token_starts_the_clock_and_is_neither_in_time_nor_late() -> None:
    deadlines = TokenDeadlines(0.1)
    assert (None, (0, 0)) == (deadlines.due_at, deadlines.take(0, 3.0))
    assert ((0, 0), 5.1) == (deadlines.take(1, 5.0), deadlines.due_at)


def test_tokens_that_come_together_leave_their_time_to_those_behind_them() -> None:
    deadlines = TokenDeadlines(0.1)
    assert (2, 0) == deadlines.take(3, 0.0)
    assert (1, 0) == deadlines.take(1, 0.3)
    assert (1, 0) == deadlines.take(1, 0.4)


def test_a_late_token_makes_no_other_late() -> None:
    deadlines = TokenDeadlines(0.1)
    deadlines.take(1, 0.0)
    assert (1, 1) == deadlines.take(2, 1.0)
    assert (1, 0) == deadlines.take(1, 1.2)


def test_a_stream_has_to_spare_what_is_beyond_a_token_of_time() -> None:
    deadlines = TokenDeadlines(0.1)
    assert deadlines.spare_seconds(0.0) == 0.0
    deadlines.take(3, 0.0)
    assert abs(deadlines.spare_seconds(0.05) - 0.15) < SAME_SECONDS
    assert deadlines.spare_seconds(9.0) == 0.0


def test_a_reader_who_stopped_begins_anew() -> None:
    deadlines = TokenDeadlines(0.1)
    deadlines.take(1, 0.0)
    deadlines.restart()
    assert (0, 0) == deadlines.take(1, 9.0)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1000)), max_size=50),
    st.integers(1, 1000),
)
def test_late_is_what_a_reader_waits_for(steps: list[tuple[int, int]], slo: int) -> None:
    """In whole milliseconds, so that equal times are equal."""
    deadlines = TokenDeadlines(float(slo))
    now, num_late, arrivals = 0, 0, []
    for num_tokens, passed in steps:
        now += passed
        num_late += deadlines.take(num_tokens, float(now))[1]
        arrivals += [now] * num_tokens
    num_waits = 0
    reads_at = arrivals[0] if arrivals else 0
    for arrived_at in arrivals[1:]:
        num_waits += arrived_at > reads_at + slo
        reads_at = max(reads_at + slo, arrived_at)
    assert num_waits == num_late
