"""In worlds whose boards slow the verifier's rounds down, measurement finds out what to do."""

from __future__ import annotations

import pytest

from tests.support.ends.scenarios import make_scenario
from verifier.scheduling.draft_trial import Arm
from verifier.scheduling.fleet_record import Standing
from verifier.sim.scenario import BoardGroup, Scenario, TargetSection
from verifier.sim.world import World, play

NEAR = {"round_trip_milliseconds": 1.0, "draft_tokens_per_second": 60.0}


def shared_cores(
    slowdown: float, *groups: BoardGroup, seconds: float = 40.0, measures: bool = True
) -> Scenario:
    """Three boards, each of which lengthens rounds by a part of them while it computes."""
    target = TargetSection(
        fixed_milliseconds=30.0, token_milliseconds=0.5, jitter=0.1, board_slowdown=slowdown
    )
    boards = groups or (BoardGroup(count=3, acceptance=0.7, **NEAR),)
    return make_scenario(*boards, seconds=seconds, target=target, measure_payoff=measures)


def late_tokens(world: World) -> float:
    """Per second, over the last half."""
    tokens = world.record.tokens.sum(axis=1)
    return float(tokens[len(tokens) // 2 :].mean())


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_drafts_that_slow_all_down_are_switched_off(mode: str) -> None:
    board = BoardGroup(count=3, acceptance=0.7, mode=mode, **NEAR)  # type: ignore[arg-type]
    measured = play(shared_cores(1.5, board))
    believed = play(shared_cores(1.5, board, measures=False))
    alone = play(shared_cores(1.5, board), drafts=False)
    assert Standing.SLOWER is measured.planner.payoff.standing
    assert late_tokens(believed) < 0.85 * late_tokens(alone)
    assert late_tokens(measured) > 0.97 * late_tokens(alone)


def test_drafts_that_pay_though_they_slow_rounds_down_stay() -> None:
    fast = BoardGroup(
        count=3, acceptance=0.9, draft_tokens_per_second=150.0, round_trip_milliseconds=1.0
    )
    measured, believed = (play(shared_cores(0.1, fast, measures=on)) for on in (True, False))
    payoff = measured.planner.payoff
    assert (Standing.FASTER, Arm.DRAFTS) == (payoff.standing, payoff.arm)
    assert late_tokens(measured) > 0.97 * late_tokens(believed)


def test_streams_that_come_and_go_do_not_keep_it_from_finding_out() -> None:
    short = BoardGroup(
        count=3, acceptance=0.7, output_tokens=80, prompt_tokens=40, think_seconds=0.05, **NEAR
    )
    measured = play(shared_cores(1.5, short))
    alone = play(shared_cores(1.5, short), drafts=False)
    assert Standing.SLOWER is measured.planner.payoff.standing
    assert late_tokens(measured) > 0.95 * late_tokens(alone)


def test_a_board_that_pays_alone_does_not_pay_beside_two_others() -> None:
    one = BoardGroup(acceptance=0.9, **NEAR)
    others = BoardGroup(count=2, acceptance=0.5, joins_at_seconds=15.0, **NEAR)
    world = play(shared_cores(0.7, one, others))
    assert world.record.tokens[5:15].sum() / 10.0 > 1.1 * 1000.0 / 30.5
    assert Standing.SLOWER is world.planner.payoff.standing
