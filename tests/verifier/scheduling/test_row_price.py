"""Rows that take long to sample are paid out of their own stream's share of a budget."""

from __future__ import annotations

import pytest

from tests.support.ends.planning import (
    add,
    draft,
    make_planner,
    make_stream,
    served,
    start,
)
from verifier.policies import FixedPolicy, affordable
from verifier.rounds.planner import RoundPlanner
from verifier.scheduling.row_price import draft_prices
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.stream import Stream
from verifier.target.round import ItemOutcome, RoundOutcome

TOKEN_SECONDS = 0.001  # of `make_curve`
DEAR_SECONDS = 3 * TOKEN_SECONDS


def stream_of(device: str, row_seconds: float, number: int = 1) -> Stream:
    stream = make_stream(number, device=device, max_output_tokens=200)
    stream.estimates.row_seconds = row_seconds
    stream.board_is_ready = True
    return stream


def test_a_draft_token_costs_its_row_beside_the_cheapest_device() -> None:
    seconds = {"bad": DEAR_SECONDS, "good": 0.0, "fair": 0.0005, "better": 0.0004}
    streams = [stream_of(*one) for one in seconds.items()]
    assert [4.0, 1.0, 1.5, 1.0] == draft_prices(streams, TOKEN_SECONDS)


def test_a_device_alone_pays_nothing_for_its_rows() -> None:
    streams = [stream_of("bad", DEAR_SECONDS), stream_of("bad", 0.0)]
    assert [1.0, 1.0] == draft_prices(streams, TOKEN_SECONDS)


def test_where_tokens_cost_nothing_rows_have_no_price() -> None:
    assert [1.0, 1.0] == draft_prices([stream_of("a", 1.0), stream_of("b", 0.0)], 0.0)


@pytest.mark.parametrize(("num_tokens", "num_drafts"), [(0, 0), (3, 0), (4, 1), (8, 2), (11, 2)])
def test_a_share_of_the_budget_pays_for_fewer_dear_tokens(num_tokens: int, num_drafts: int) -> None:
    assert num_drafts == affordable(num_tokens, 4.0)


def drafts_in_each_round(planner: RoundPlanner, row_seconds: dict[int, float]) -> list[list[int]]:
    """Draft tokens of streams 1, 2, … in rounds for which all boards draft all that they may."""
    streams = [stream_of(f"board-{i}", 0.0, i) for i in row_seconds]
    add(planner, *streams)
    rounds = []
    for number in range(20):
        for stream in streams:
            if num_missing := stream.window - len(stream.path.live):
                draft(stream, *[31] * num_missing, now=float(number))
        round_ = start(planner, float(number))
        items = tuple(ItemOutcome(0, 20) for _ in round_.items)
        seconds = tuple(row_seconds[item.stream] for item in round_.items)
        outcome = RoundOutcome(items, 0.08, 0.01, row_seconds=seconds)
        took = planner.curve.round_seconds(round_.num_tokens, round_.context_tokens)
        planner.finish_round(round_, outcome, took, number + 0.1)
        tokens = served(round_)
        rounds.append([tokens[i] - 1 for i in row_seconds])
    return rounds[3:]  # past the prompts, and the first row of each


@pytest.mark.parametrize(("price", "num_tested"), [(1, [8, 8]), (2, [4, 8]), (4, [2, 8])])
def test_a_stream_whose_rows_are_dear_gets_fewer_of_them_and_others_get_theirs(
    price: int, num_tested: list[int]
) -> None:
    """However far its board is ahead: what the budget has left pays for the same few."""
    planner = make_planner(
        policy=FixedPolicy(8), num_blocks=1000, budget_tokens=16, max_draft_length=8
    )
    rounds = drafts_in_each_round(planner, {1: (price - 1) * TOKEN_SECONDS, 2: 0.0})
    assert [num_tested] * len(rounds) == rounds


def test_drafts_that_a_device_was_granted_alone_are_dear_from_when_another_one_comes() -> None:
    planner = make_planner(
        policy=FixedPolicy(16), num_blocks=1000, budget_tokens=16, max_draft_length=16
    )
    first, other = stream_of("bad", 0.003), stream_of("good", 0.0, 2)
    add(planner, first)
    outcome = RoundOutcome((ItemOutcome(0, 20),), 0.08, 0.01, row_seconds=(0.003,))
    planner.finish_round(start(planner), outcome, 0.1, 0.1)
    draft(first, *[31] * 16)
    add(planner, other)
    assert {1: 5, 2: 5} == served(start(planner, 0.2))  # 4 of its drafts, and the other's prompt


def test_the_next_stream_of_a_device_is_taken_for_a_dear_one_until_it_shows_its_rows() -> None:
    estimates = DeviceEstimates()
    for seconds in (0.003, *[0.0] * 10):
        estimates.observe_row(seconds)
    stream = make_stream(device_estimates=estimates)
    assert 0.0025 < stream.estimates.row_seconds < 0.003
    stream.estimates.observe_row(0.0)
    assert 0.0 == stream.estimates.row_seconds
    for _ in range(700):
        estimates.observe_row(0.0)
    assert estimates.row_seconds < 0.0001


def test_a_row_that_took_long_once_is_forgotten() -> None:
    stream = stream_of("board", 0.0)
    for seconds in (0.1, *[0.001] * 40):
        stream.estimates.observe_row(seconds)
    assert stream.estimates.row_seconds == pytest.approx(0.001, rel=0.05)
