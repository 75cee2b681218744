"""Boards that rest: what they are told, and how they come back."""

from __future__ import annotations

import msgspec
import pytest

from shared.protocol.messages import AcceptanceMode
from tests.support.ends.planning import add, draft, make_planner, make_stream, play
from verifier.engine.verdicts import verdict_of
from verifier.policies import DraftPolicy, FixedPolicy, RatePolicy
from verifier.rounds.planner import RoundPlanner
from verifier.scheduling.draft_trial import Arm
from verifier.scheduling.measured_payoff import MeasuredPayoff
from verifier.scheduling.no_drafts import reasons_for_no_drafts
from verifier.streams.stream import Stream

SENTENCE = "drafts are off: measured 12% slower with them"


class Told(MeasuredPayoff):
    """Has found out what a test says."""

    told_arm = Arm.ALONE

    @property
    def arm(self) -> Arm:
        return self.told_arm

    @property
    def rest_sentence(self) -> str | None:
        return None if self.told_arm is Arm.DRAFTS else SENTENCE


def planner_of(*streams: Stream, policy: DraftPolicy | None = None) -> tuple[RoundPlanner, Told]:
    """A planner that plays these streams, whose boards are ready, and what it has found out."""
    planner = make_planner(policy=policy or FixedPolicy(4), measures_payoff=True)
    payoff = planner.payoff = Told()
    add(planner, *streams)
    play(planner, 0.0)
    for stream in streams:
        stream.board_is_ready = True
    return planner, payoff


def told(planner: RoundPlanner, now: float) -> tuple[int, bool]:
    """Window of the first stream's next verdict, and whether its board may rest."""
    verdict = verdict_of(1, play(planner, now)[0])
    return verdict.window, verdict.rests


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
@pytest.mark.parametrize("policy", [FixedPolicy(4), RatePolicy()], ids=["fixed", "rate"])
def test_boards_are_told_to_rest_as_long_as_that_is_faster(
    mode: AcceptanceMode, policy: DraftPolicy
) -> None:
    stream = make_stream(mode=mode, max_output_tokens=90)
    planner, payoff = planner_of(stream, policy=policy)
    for now in range(1, 5):
        assert (0, True) == told(planner, float(now))
    payoff.told_arm = Arm.DRAFTS
    assert told(planner, 5.0)[0] > 0


def test_a_board_whose_window_is_taken_is_ready_when_it_says_so_again() -> None:
    stream = make_stream(max_output_tokens=90)
    planner, payoff = planner_of(stream)
    payoff.told_arm = Arm.DRAFTS
    play(planner, 1.0)
    assert stream.window > 0
    payoff.told_arm = Arm.ALONE
    play(planner, 2.0)
    assert not stream.board_is_ready
    draft(stream, 31, 32, now=2.5)  # it was on the way
    assert not stream.board_is_ready
    payoff.told_arm = Arm.DRAFTS
    assert (0, False) == told(planner, 3.0)
    stream.board_is_ready = True
    assert told(planner, 4.0)[0] > 0


def test_a_board_without_a_window_stays_ready() -> None:
    stream = make_stream(max_output_tokens=90)
    planner, payoff = planner_of(stream)
    play(planner, 1.0)
    assert stream.rests
    assert stream.board_is_ready
    payoff.told_arm = Arm.DRAFTS
    assert told(planner, 2.0)[0] > 0


def test_a_length_that_a_request_fixes_is_granted_all_the_same() -> None:
    stream = make_stream(draft_length=3, max_output_tokens=90)
    planner, _ = planner_of(stream)
    assert told(planner, 1.0)[0] > 0
    assert 3 == stream.draft_length
    assert not stream.rests


def test_the_last_verdict_says_nothing_of_a_rest() -> None:
    stream = make_stream(max_output_tokens=3)
    planner, _ = planner_of(stream)
    play(planner, 1.0)
    assert (0, False) == told(planner, 2.0)


def test_it_is_said_why_a_board_rests() -> None:
    stream = make_stream(max_output_tokens=90)
    planner, _ = planner_of(stream)
    play(planner, 1.0)
    settings = planner.settings.schedule
    (reason,) = reasons_for_no_drafts([stream], planner.draft_plan, settings)
    assert ("measured", SENTENCE) == reason


def test_where_it_is_not_to_be_measured_no_board_rests() -> None:
    stream = make_stream(max_output_tokens=90)
    planner, _ = planner_of(stream)
    off = msgspec.structs.replace(planner.settings.schedule, measures_payoff=False)
    planner.replace_policy(planner.policy, off)
    assert told(planner, 1.0)[0] > 0
