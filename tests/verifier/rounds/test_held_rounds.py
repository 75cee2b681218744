"""Rounds that are held for drafts that all of their streams gain by."""

from __future__ import annotations

import pytest

from shared.protocol.messages import AcceptanceMode
from tests.support.ends.planning import add, draft, finish, make_planner, make_stream, served, start
from verifier.policies import FixedPolicy
from verifier.rounds.planner import RoundPlanner
from verifier.streams.estimates import LATE_FACTOR, LATE_SECONDS
from verifier.streams.stream import Stream

TOKEN_SECONDS, LENGTH = 0.003, 8  # rounds take 0.1 s
LATEST = LATE_FACTOR * LENGTH * TOKEN_SECONDS + LATE_SECONDS


def near_board(
    number: int, token_seconds: float = TOKEN_SECONDS, mode: AcceptanceMode = "coupled"
) -> Stream:
    """A stream of a device of its own, whose board answers in a quarter of a round."""
    stream = make_stream(number, device=f"board-{number}", max_output_tokens=90, mode=mode)
    stream.estimates.speed.draft_token_seconds = token_seconds
    stream.estimates.speed.round_trip_seconds = 0.0
    stream.estimates.acceptance.observe_counts(8500, 1500)
    stream.board_is_ready = True
    return stream


def playing(*streams: Stream) -> RoundPlanner:
    """A planner after the round at the end of which, at 0.1, all got their first windows."""
    policy = FixedPolicy(LENGTH)
    planner = make_planner(uses_guard=True, policy=policy, max_draft_length=LENGTH)
    add(planner, *streams)
    finish(planner, start(planner, 0.0), now=0.1)
    return planner


def test_a_round_starts_when_the_drafts_of_all_are_here() -> None:
    first, second = near_board(1), near_board(2)
    planner = playing(first, second)
    draft(first, *range(31, 31 + LENGTH), now=0.124)
    assert None is planner.start_round(0.124)
    draft(second, *range(31, 31 + LENGTH), now=0.126)
    assert {1: 1 + LENGTH, 2: 1 + LENGTH} == served(start(planner, 0.126))


def test_it_is_held_no_longer_than_punctual_boards_need() -> None:
    first, second = near_board(1), near_board(2)
    planner = playing(first, second)
    draft(first, *range(31, 31 + LENGTH), now=0.124)
    assert 0.1 + LATEST == planner.next_deadline()
    assert {1: 1 + LENGTH, 2: 1} == served(start(planner, 0.1 + LATEST))
    assert second.estimates.speed.punctuality < 1.0


@pytest.mark.parametrize("punctuality", [0.5, 0.85])
def test_no_round_is_held_for_a_board_that_is_often_late(punctuality: float) -> None:
    first, second = near_board(1), near_board(2)
    second.estimates.speed.punctuality = punctuality
    planner = playing(first, second)
    assert not planner.draft_plan.holds_rounds
    draft(first, *range(31, 31 + LENGTH), now=0.124)
    assert 1 in served(start(planner, 0.124))


def test_no_round_is_held_beside_a_slow_board() -> None:
    planner = playing(near_board(1), near_board(2, token_seconds=0.09))
    assert {2: 1} == served(start(planner, 0.1))


def test_a_stream_that_waits_for_its_board_misses_no_round_of_others() -> None:
    chunk, other = near_board(1, mode="rejection"), near_board(2)
    planner = playing(chunk, other)
    draft(other, *range(31, 31 + LENGTH), now=0.12)
    assert None is planner.start_round(0.12)
    draft(chunk, *range(31, 31 + LENGTH), now=0.124)
    assert {1: 1 + LENGTH, 2: 1 + LENGTH} == served(start(planner, 0.124))


def test_others_go_on_without_a_stream_whose_chunk_is_late() -> None:
    chunk, other = near_board(1, mode="rejection"), near_board(2)
    planner = playing(chunk, other)
    draft(other, *range(31, 31 + LENGTH), now=0.12)
    assert 0.1 + LATEST == planner.next_deadline()
    assert {2: 1 + LENGTH} == served(start(planner, 0.1 + LATEST))


def test_a_board_that_passes_is_not_waited_for() -> None:
    chunk, other = near_board(1, mode="rejection"), near_board(2)
    planner = playing(chunk, other)
    draft(other, *range(31, 31 + LENGTH), now=0.12)
    draft(chunk, now=0.12)
    assert {1: 1, 2: 1 + LENGTH} == served(start(planner, 0.12))
