"""Streams in greedy and coupled that sit out for a whole draft, and those that do not."""

from __future__ import annotations

from tests.support.ends.planning import add, draft, finish, make_planner, make_stream, served, start
from verifier.policies import FixedPolicy
from verifier.rounds.planner import RoundPlanner
from verifier.scheduling.waiting import SMALLEST_PUNCTUALITY
from verifier.streams.estimates import LATE_FACTOR, LATE_SECONDS
from verifier.streams.stream import Stream

TOKEN_SECONDS, LENGTH = 0.003, 8  # rounds take 0.1 s
LATEST = LATE_FACTOR * LENGTH * TOKEN_SECONDS + LATE_SECONDS


def near_board(number: int = 1, rate: float = 0.85) -> Stream:
    """A stream whose board answers in a quarter of a round."""
    stream = make_stream(number, max_output_tokens=90)
    stream.estimates.speed.draft_token_seconds = TOKEN_SECONDS
    stream.estimates.speed.round_trip_seconds = 0.0
    for _ in range(200):
        stream.estimates.acceptance.observe_counts(round(100 * rate), round(100 - 100 * rate))
    stream.board_is_ready = True
    return stream


def playing(*streams: Stream) -> RoundPlanner:
    """A planner after the round at the end of which, at 0.1, all got their first windows."""
    planner = make_planner(uses_guard=True, policy=FixedPolicy(LENGTH), max_draft_length=LENGTH)
    add(planner, *streams)
    finish(planner, start(planner, 0.0), now=0.1)
    return planner


def test_a_stream_sits_out_until_the_draft_is_here() -> None:
    stream = near_board()
    planner = playing(stream)
    assert (LENGTH, LATEST) == (stream.draft_length, stream.awaited_seconds)
    assert None is planner.start_round(0.11)
    draft(stream, *range(31, 31 + LENGTH), now=0.124)
    assert {1: 1 + LENGTH} == served(start(planner, 0.124))
    assert 1.0 == stream.estimates.speed.punctuality


def test_it_waits_no_longer_than_a_punctual_board_needs() -> None:
    stream = near_board()
    planner = playing(stream)
    assert 0.1 + LATEST == planner.next_deadline()
    assert None is planner.start_round(0.1 + LATEST - 1e-6)
    assert {1: 1} == served(start(planner, 0.1 + LATEST))
    assert stream.estimates.speed.punctuality < 1.0
    assert 0 == planner.patience.num_draft_timeouts  # the board may go on


def test_a_board_that_is_often_late_is_not_waited_for() -> None:
    stream = near_board()
    stream.estimates.speed.punctuality = SMALLEST_PUNCTUALITY - 0.01
    planner = playing(stream)
    assert 0.0 == stream.awaited_seconds
    assert {1: 1} == served(start(planner, 0.1))


def test_drafts_in_time_win_trust_back() -> None:
    stream = near_board()
    stream.estimates.speed.punctuality = 0.0
    planner = playing(stream)
    for _ in range(20):
        stream.estimates.speed.observe_arrival(4, 0.012, 0.012)
    finish(planner, start(planner, 0.1), now=0.2)
    assert stream.awaited_seconds > 0


def test_nobody_else_waits() -> None:
    near, alone = near_board(1), make_stream(2)
    planner = playing(near, alone)
    assert {2: 1} == served(start(planner, 0.11))


def test_a_stream_with_live_tokens_goes_on_at_once() -> None:
    stream = near_board()
    planner = playing(stream)
    draft(stream, 31, 32, 33, now=0.12)
    round_ = start(planner, 0.12)
    draft(stream, 34, 35, now=0.13)
    finish(planner, round_, {1: (3, 34)}, now=0.22)
    assert 0.0 == stream.awaited_seconds
    assert {1: 2} == served(start(planner, 0.22))


def test_a_stream_whose_whole_draft_was_accepted_sits_out_for_the_next_one() -> None:
    stream = near_board()
    planner = playing(stream)
    draft(stream, 31, 32, 33, now=0.12)
    finish(planner, start(planner, 0.12), {1: (3, 34)}, now=0.22)
    assert stream.awaited_seconds > 0
    assert None is planner.start_round(0.22)
    draft(stream, 35, now=0.23)
    assert {1: 2} == served(start(planner, 0.23))
