"""Drafts that do not pay are refused, and refused boards are asked again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.speculation.goodput import expected_tokens
from verifier.scheduling.draft_payoff import (
    SMALLEST_CHANCE_TO_GO_ON,
    SMALLEST_SURVIVAL,
    SMALLEST_SURVIVAL_AHEAD,
    DraftCosts,
    best_lengths,
    worthwhile_depth,
    worthwhile_depths,
)
from verifier.streams.probe_clock import (
    FIRST_PROBE_PAUSE_SECONDS,
    MAX_PROBE_PAUSE_SECONDS,
    MAX_PROBE_SHARE,
    PROBE_LENGTH,
    ProbeClock,
)


def costs(
    rate: float = 0.8,
    draft_token_seconds: float = 0.01,
    round_trip_seconds: float = 0.02,
    round_seconds: float = 0.1,
    token_seconds: float = 0.001,
    waits: bool = True,
) -> DraftCosts:
    return DraftCosts(
        acceptance_rates=np.array([rate]),
        draft_token_seconds=np.array([draft_token_seconds]),
        round_trip_seconds=np.array([round_trip_seconds]),
        waits=np.array([waits]),
        round_seconds=round_seconds,
        token_seconds=token_seconds,
    )


def best_length(stream: DraftCosts, asked_length: int) -> int:
    """Of one stream."""
    (length,) = best_lengths(stream, asked_length).tolist()
    assert isinstance(length, int)
    return length


any_costs = st.builds(
    costs,
    rate=st.floats(0.01, 0.99),
    draft_token_seconds=st.floats(0.001, 0.3),
    round_trip_seconds=st.floats(0.0, 0.3),
    round_seconds=st.floats(0.004, 0.2),
    token_seconds=st.floats(0.0, 0.02),
    waits=st.booleans(),
)


def tokens_per_second(costs: DraftCosts, length: int) -> float:
    """Of drafts that are as long; by summing up what may happen to a board that goes on."""
    (rate,), (token_seconds,) = costs.acceptance_rates, costs.draft_token_seconds
    tokens = expected_tokens(float(rate), length)
    round_seconds = costs.round_seconds + length * costs.token_seconds
    if not costs.waits[0]:
        is_ahead = token_seconds < costs.round_seconds
        return tokens / round_seconds if is_ahead else 0.0
    drafting_seconds = length * float(token_seconds)
    begun_seconds = 0.5 * costs.round_seconds + round_seconds
    begun_seconds += drafting_seconds + float(costs.round_trip_seconds[0])
    chance = float(rate) ** (length + 1)  # all of it, and the guess of the bonus token
    if chance < SMALLEST_CHANCE_TO_GO_ON:
        return tokens / begun_seconds
    # A row of drafts: the first is begun after a verdict, each other one before.
    rows = [(chance**n * (1 - chance), n) for n in range(2000)]
    ahead_seconds = max(round_seconds, drafting_seconds)
    row_tokens = sum(weight * (n + 1) * tokens for weight, n in rows)
    row_seconds = sum(weight * (begun_seconds + n * ahead_seconds) for weight, n in rows)
    return row_tokens / row_seconds


def test_a_waiting_stream_must_win_its_cycle_back() -> None:
    # Past two tokens and a guess the board never goes on (0.5 ** 3). mu(2) = 1.75 rounds of 0.1 s
    # cover 1.5 and 0.002 s for the tokens in them: 0.023 s are left for the round trip.
    near, far = (
        costs(rate=0.5, draft_token_seconds=0.0, token_seconds=0.001, round_trip_seconds=seconds)
        for seconds in (0.0229, 0.0231)
    )
    assert (2, 0) == (best_length(near, 2), best_length(far, 2))


def test_a_board_that_can_go_on_hides_the_round_trip() -> None:
    # mu(1) = 1.9 and 0.81 of the drafts go on: 0.81 rounds of 0.1 s, and 0.19 with the round trip.
    near, far = (
        costs(rate=0.9, draft_token_seconds=0.01, token_seconds=0.0, round_trip_seconds=seconds)
        for seconds in (0.41, 0.42)
    )
    assert (1, 0) == (best_length(near, 1), best_length(far, 1))


def test_a_fast_target_leaves_nothing_for_a_slow_link() -> None:
    datacentre = costs(rate=0.9, draft_token_seconds=0.006, round_seconds=0.005)
    assert 0 == best_length(datacentre, 16)


def test_where_nothing_can_go_on_only_a_long_draft_wins_the_round_trip_back() -> None:
    slow_link = costs(rate=0.55, draft_token_seconds=0.001, round_trip_seconds=0.04)
    assert [0, 0, 3] == [best_length(slow_link, length) for length in (1, 2, 4)]


def test_the_length_with_most_tokens_per_second_wins_over_the_longest_that_pays() -> None:
    slow_board = costs(rate=0.8, draft_token_seconds=0.04, round_trip_seconds=0.0, token_seconds=0)
    speeds = [tokens_per_second(slow_board, length) for length in range(1, 6)]
    assert 2 == 1 + speeds.index(max(speeds))
    assert speeds[-1] > 1 / slow_board.round_seconds
    assert 2 == best_length(slow_board, 16)


def test_even_a_free_draft_ends_where_its_tokens_hardly_survive() -> None:
    free = costs(rate=0.7, token_seconds=0.0, waits=False)
    assert 5 == worthwhile_depth(0.7) == best_length(free, 16)
    assert 18 == worthwhile_depth(0.9)
    assert 3 == worthwhile_depth(0.7, SMALLEST_SURVIVAL_AHEAD)
    assert 1 == worthwhile_depth(0.01)


@given(st.floats(0.01, 0.99))
def test_the_worthwhile_depth_is_the_last_one_with_a_fair_chance(rate: float) -> None:
    depth = worthwhile_depth(rate)
    assert depth == 1 or rate**depth >= SMALLEST_SURVIVAL * (1 - 1e-9)
    assert rate ** (depth + 1) < SMALLEST_SURVIVAL * (1 + 1e-9)
    assert [depth] == worthwhile_depths(np.array([rate])).tolist()


def test_a_stream_that_never_waits_ignores_the_round_trip() -> None:
    assert 4 == best_length(costs(round_trip_seconds=5.0, waits=False), 4)


def test_a_board_slower_than_the_target_never_gets_ahead() -> None:
    assert 1 == best_length(costs(draft_token_seconds=0.0999, waits=False), 1)
    assert 0 == best_length(costs(draft_token_seconds=0.1, waits=False), 1)


def test_drafts_must_earn_the_growth_of_the_round() -> None:
    # mu(1) = 1.8: the round may grow by 80 % at most.
    assert 0 == best_length(costs(token_seconds=0.081, waits=False), 1)
    assert 1 == best_length(costs(token_seconds=0.079, waits=False), 8)


@given(any_costs, st.integers(-1, 64))
def test_the_best_length_is_the_one_that_the_formula_finds(
    stream_costs: DraftCosts, asked_length: int
) -> None:
    """Sums and powers may round in different ways, so what is equal but for that is equal."""
    rate = float(stream_costs.acceptance_rates[0])
    longest = min(asked_length, worthwhile_depth(rate))
    edges = [abs(rate ** (n + 1) - SMALLEST_CHANCE_TO_GO_ON) for n in range(1, longest + 1)]
    assume(min(edges, default=1.0) > 1e-9)
    speeds = {n: tokens_per_second(stream_costs, n) for n in range(1, longest + 1)}
    speeds[0] = 1 / stream_costs.round_seconds
    length = best_length(stream_costs, asked_length)
    assert speeds[length] >= max(speeds.values()) * (1 - 1e-9)


@given(any_costs, st.integers(0, 32))
def test_no_draft_pays_that_expects_at_most_one_token(
    stream_costs: DraftCosts, asked_length: int
) -> None:
    length = best_length(stream_costs, asked_length)
    assert length == 0 or expected_tokens(float(stream_costs.acceptance_rates[0]), length) > 1.0


@given(st.lists(any_costs, min_size=1, max_size=6), st.integers(0, 32))
def test_streams_judged_together_are_judged_as_alone(
    streams: list[DraftCosts], asked_length: int
) -> None:
    round_seconds, token_seconds = streams[0].round_seconds, streams[0].token_seconds
    figures = ("acceptance_rates", "draft_token_seconds", "round_trip_seconds", "waits")
    one_by_one = [
        DraftCosts(
            **{name: getattr(stream, name) for name in figures},
            round_seconds=round_seconds,
            token_seconds=token_seconds,
        )
        for stream in streams
    ]
    together = DraftCosts(
        **{name: np.concatenate([getattr(s, name) for s in streams]) for name in figures},
        round_seconds=round_seconds,
        token_seconds=token_seconds,
    )
    alone = [best_length(stream, asked_length) for stream in one_by_one]
    assert alone == best_lengths(together, asked_length).tolist()


def test_the_first_probe_comes_after_the_first_pause() -> None:
    clock = ProbeClock()
    assert 0 == clock.grant_probe(now=100.0)
    assert 0 == clock.grant_probe(now=100.0 + 0.99 * FIRST_PROBE_PAUSE_SECONDS)
    assert PROBE_LENGTH == clock.grant_probe(now=100.0 + FIRST_PROBE_PAUSE_SECONDS)
    assert 0 == clock.grant_probe(now=100.0 + FIRST_PROBE_PAUSE_SECONDS)


def probe_times(clock: ProbeClock, first: float, last: float) -> list[float]:
    num_steps = round((last - first) / 0.05)
    times = [first + 0.05 * step for step in range(num_steps)]
    return [now for now in times if clock.grant_probe(now)]


def test_probes_become_rarer_up_to_a_limit() -> None:
    times = probe_times(ProbeClock(), 0.0, 300.0)
    pauses = [after - before for before, after in pairwise(times)]
    assert 10 == len([now for now in times if now <= 60.0])
    assert pauses[:-1] == pytest.approx(sorted(pauses[:-1]), abs=0.051)
    assert MAX_PROBE_PAUSE_SECONDS == pytest.approx(pauses[-1], abs=0.051)


def test_a_board_that_pays_again_starts_over_with_the_short_pause() -> None:
    clock = ProbeClock()
    probe_times(clock, 0.0, 300.0)
    clock.restart()
    assert 0 == clock.grant_probe(now=400.0)
    assert PROBE_LENGTH == clock.grant_probe(now=400.0 + FIRST_PROBE_PAUSE_SECONDS)


def test_probes_that_a_stream_waits_for_take_little_of_its_time() -> None:
    clock, now, waited = ProbeClock(), 0.0, 0.0
    for step in range(10_000):
        now = 0.01 * step
        waited += 0.2 * (clock.grant_probe(now, wait_seconds=0.2) > 0)
    assert 0 < waited <= MAX_PROBE_SHARE * now
