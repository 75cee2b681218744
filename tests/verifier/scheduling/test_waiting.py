"""Whether a stream in greedy or coupled sits out for the draft that its board has just begun."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.goodput import expected_tokens
from verifier.scheduling.draft_payoff import DraftCosts
from verifier.scheduling.waiting import (
    SMALLEST_GAIN,
    GoingOn,
    draft_seconds,
    length_worth_waiting_for,
)


def costs(
    rate: float = 0.85, token: float = 0.003, round_trip: float = 0.0, round_: float = 0.15
) -> DraftCosts:
    return DraftCosts(
        acceptance_rate=rate,
        draft_token_seconds=token,
        round_trip_seconds=round_trip,
        round_seconds=round_,
        token_seconds=0.0007,
        waits=False,
    )


ANY_COSTS = st.builds(
    costs,
    st.floats(0.01, 0.99),
    st.floats(0.0, 0.2),
    st.floats(0.0, 1.0),
    st.floats(0.001, 1.0),
)


def test_a_short_wait_in_long_rounds_pays() -> None:
    """A draft of 12 tokens takes a quarter of a round, a lone round gives one token."""
    assert 12 == length_worth_waiting_for(costs(), 16, is_alone=True)


@pytest.mark.parametrize(
    "given",
    [
        costs(round_trip=0.1, round_=0.06),  # two rounds go by until a draft is there
        costs(token=0.03, round_=0.06),  # the board drafts two tokens a round
        costs(rate=0.99, token=0.01, round_=0.06),  # the path lives on, and drafting goes on
    ],
)
def test_otherwise_the_next_round_starts_at_once(given: DraftCosts) -> None:
    assert 0 == length_worth_waiting_for(given, 16, is_alone=True)


def test_beside_others_a_draft_comes_into_a_running_round() -> None:
    near = costs(token=0.009)
    assert length_worth_waiting_for(near, 16, is_alone=True) > 0
    assert 0 == length_worth_waiting_for(near, 16, is_alone=False)


@given(ANY_COSTS, st.integers(1, 32), st.booleans())
def test_waiting_promises_more_than_going_on(
    given_costs: DraftCosts, longest: int, is_alone: bool
) -> None:
    length = length_worth_waiting_for(given_costs, longest, is_alone=is_alone)
    assert 0 <= length <= longest
    if length:
        seconds = draft_seconds(given_costs, length) + length * given_costs.token_seconds
        seconds += given_costs.round_seconds * (1.0 if is_alone else 1.5)
        tokens = expected_tokens(given_costs.acceptance_rate, length)
        assert tokens > SMALLEST_GAIN * GoingOn.of(given_costs, longest).tokens_in(seconds)


@given(ANY_COSTS, st.integers(1, 32), st.floats(0.01, 5.0), st.floats(0.0, 5.0))
def test_more_time_gives_more_tokens(
    given_costs: DraftCosts, longest: int, seconds: float, more: float
) -> None:
    now = GoingOn.of(given_costs, longest).tokens_in(seconds)
    assert 0 < now <= GoingOn.of(given_costs, longest).tokens_in(seconds + more) * (1 + 1e-9)
