"""When the next round will start, guessed from the verdicts that came."""

from __future__ import annotations

import math

import pytest

from edge_agent.drafting.round_pace import RoundPace


def pace_after(*verdicts: float, token_seconds: float = 0.0, round_trip: float = 0.0) -> RoundPace:
    pace = RoundPace(round_trip)
    for at in verdicts:
        pace.observe_verdict(at)
    if token_seconds:
        pace.observe_draft_token(token_seconds)
    return pace


@pytest.mark.parametrize("verdicts", [(), (1.0,)])
def test_without_two_verdicts_no_draft_is_urgent(verdicts: tuple[float, ...]) -> None:
    assert not pace_after(*verdicts, token_seconds=0.1).is_last_chance(1.0)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (10.0, False),
        (10.59, False),
        (10.61, True),  # one more token of 0.1 s would end after 10.7
        (10.7, True),
        (10.71, False),  # too late for that round: a whole draft is best again
    ],
)
def test_the_last_chance_is_one_token_before_the_message_must_go(
    now: float, expected: bool
) -> None:
    # Verdicts come every second; a message takes 0.3 s there and back: send by 10.7.
    pace = pace_after(8.0, 9.0, 10.0, token_seconds=0.1, round_trip=0.3)
    assert expected == pace.is_last_chance(now)


def test_before_the_first_token_only_the_deadline_itself_counts() -> None:
    pace = pace_after(8.0, 9.0)
    assert [False, True, False] == [pace.is_last_chance(now) for now in (9.99, 10.0, 10.01)]


def test_a_round_may_end_as_early_as_rounds_vary() -> None:
    pace = pace_after(0.0, 1.0, 3.0)  # the next is expected after 1.2 s, give or take 0.2 s
    assert [False, True, False] == [pace.is_last_chance(now) for now in (3.99, 4.0, 4.01)]


def test_a_message_that_takes_longer_than_a_round_is_for_a_later_one() -> None:
    # Verdicts come every second; what is to be in time for a round at 12.0 must go at 10.5.
    pace = pace_after(8.0, 9.0, 10.0, token_seconds=0.1, round_trip=1.5)
    assert [False, True, False] == [pace.is_last_chance(now) for now in (10.3, 10.45, 10.51)]


def test_a_slower_token_moves_the_last_chance_by_a_fifth() -> None:
    pace = pace_after(8.0, 9.0, token_seconds=0.1)
    pace.observe_draft_token(0.6)  # 0.2 s are expected
    assert [False, True] == [pace.is_last_chance(now) for now in (9.79, 9.81)]


def test_a_lost_link_is_no_round() -> None:
    pace = pace_after(0.0, 1.0)
    pace.pause()
    assert not pace.is_last_chance(2.0)
    pace.observe_verdict(60.0)
    assert [True, False] == [pace.is_last_chance(now) for now in (61.0, 61.1)]


def test_at_stake_is_what_a_faster_model_draws_until_it_hears_of_a_wrong_token() -> None:
    # 4 rounds of 1 s: 40 tokens, and the target itself says 4 of them.
    assert 36 == pytest.approx(pace_after(8.0, 9.0, token_seconds=0.1).drafts_at_stake)
    far = pace_after(8.0, 9.0, token_seconds=0.1, round_trip=1.0)
    assert 45 == pytest.approx(far.drafts_at_stake)


def test_a_model_that_is_no_faster_than_the_target_puts_nothing_at_stake() -> None:
    assert 0 == pace_after(8.0, 9.0, token_seconds=1.5).drafts_at_stake


def test_at_first_everything_is_at_stake() -> None:
    assert math.inf == pace_after(8.0, token_seconds=0.1).drafts_at_stake
    assert math.inf == pace_after(8.0, 9.0).drafts_at_stake
