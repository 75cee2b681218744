"""Whether a stream in greedy or coupled sits out for the draft that its board has just begun."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.goodput import expected_tokens
from verifier.scheduling.draft_payoff import DraftCosts
from verifier.scheduling.waiting import (
    SMALLEST_GAIN,
    GoingOn,
    lengths_worth_waiting_for,
)


def costs(
    rate: float = 0.85, token: float = 0.003, round_trip: float = 0.0, round_: float = 0.15
) -> DraftCosts:
    return DraftCosts(
        acceptance_rates=np.array([rate]),
        draft_token_seconds=np.array([token]),
        round_trip_seconds=np.array([round_trip]),
        waits=np.array([False]),
        round_seconds=round_,
        token_seconds=0.0007,
    )


def length_worth_waiting_for(given_costs: DraftCosts, longest: int, *, is_alone: bool) -> int:
    """Of one stream."""
    (length,) = lengths_worth_waiting_for(
        given_costs, np.array([longest]), is_alone=is_alone
    ).tolist()
    assert isinstance(length, int)
    return length


def tokens_by_going_on(given_costs: DraftCosts, longest: int, seconds: float) -> float:
    tokens = GoingOn.of(given_costs, np.array([longest])).tokens_in(np.array([[seconds]]))
    return float(tokens[0, 0])


ANY_COSTS = st.builds(
    costs,
    st.floats(0.01, 0.99),
    st.floats(0.0, 0.2),
    st.floats(0.0, 1.0),
    st.floats(0.001, 1.0),
)


def test_a_short_wait_in_long_rounds_pays() -> None:
    """A draft of 13 tokens takes a quarter of a round, a lone round gives one token."""
    assert 13 == length_worth_waiting_for(costs(), 16, is_alone=True)


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
        seconds = float(given_costs.draft_seconds(length)[0]) + length * given_costs.token_seconds
        seconds += given_costs.round_seconds * (1.0 if is_alone else 1.5)
        tokens = expected_tokens(float(given_costs.acceptance_rates[0]), length)
        rival = tokens_by_going_on(given_costs, longest, seconds)
        assert tokens > SMALLEST_GAIN * rival * (1 - 1e-9)


@given(ANY_COSTS, st.integers(1, 32), st.floats(0.01, 5.0), st.floats(0.0, 5.0))
def test_more_time_gives_more_tokens(
    given_costs: DraftCosts, longest: int, seconds: float, more: float
) -> None:
    now = tokens_by_going_on(given_costs, longest, seconds)
    assert 0 < now <= tokens_by_going_on(given_costs, longest, seconds + more) * (1 + 1e-9)


@given(st.lists(ANY_COSTS, min_size=1, max_size=6), st.integers(1, 32), st.booleans())
def test_streams_judged_together_are_judged_as_alone(
    streams: list[DraftCosts], longest: int, is_alone: bool
) -> None:
    round_seconds = streams[0].round_seconds
    figures = ("acceptance_rates", "draft_token_seconds", "round_trip_seconds", "waits")
    rest = {"round_seconds": round_seconds, "token_seconds": 0.0007}
    one_by_one = [DraftCosts(**{n: getattr(s, n) for n in figures}, **rest) for s in streams]
    together = DraftCosts(
        **{n: np.concatenate([getattr(s, n) for s in streams]) for n in figures}, **rest
    )
    alone = [length_worth_waiting_for(s, longest, is_alone=is_alone) for s in one_by_one]
    many = np.full(len(streams), longest)
    assert alone == lengths_worth_waiting_for(together, many, is_alone=is_alone).tolist()
