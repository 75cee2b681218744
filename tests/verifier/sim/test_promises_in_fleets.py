"""Whole fleets with promises in simulated time."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.ends.scenarios import make_scenario
from verifier.policies import PolicyName
from verifier.promises.promises import SloCounts
from verifier.sim.outcome import outcome_of
from verifier.sim.scenario import BoardGroup, Scenario
from verifier.sim.world import World, play

PROMISED_PART = 0.95


def fleet(policy: PolicyName, jitter: float = 0.05) -> Scenario:
    """8 boards that are promised a token in 80 ms, 24 in 400 ms; 16 tokens of a round fit."""
    strict = BoardGroup(
        count=8, acceptance=0.7, output_tokens=100, think_seconds=1.0, slo_milliseconds=80.0
    )
    lax = msgspec.structs.replace(strict, count=24, slo_milliseconds=400.0, joins_at_seconds=3.0)
    scenario = make_scenario(
        *(strict, lax), seconds=20.0, fixed_milliseconds=30.0, token_milliseconds=3.0, policy=policy
    )
    target = msgspec.structs.replace(scenario.target, jitter=jitter)
    return msgspec.structs.replace(scenario, target=target)


def counts(world: World, group: str) -> SloCounts:
    summed = SloCounts()
    for device, of_device in world.planner.promises.counts.items():
        if device.startswith(group):
            summed.num_in_time += of_device.num_in_time
            summed.num_late += of_device.num_late
    return summed


@pytest.mark.parametrize("policy", ["rate", "goodspeed", "fixed"])
def test_a_fleet_keeps_what_it_is_promised_under_every_policy(policy: PolicyName) -> None:
    world = play(fleet(policy))
    for group in ("group0", "group1"):
        assert (counts(world, group).in_time or 0.0) >= PROMISED_PART, group
    assert world.planner.promises.stretch > 1.0  # rounds jitter


def test_where_rounds_take_what_they_should_no_token_is_late() -> None:
    world = play(fleet("rate", jitter=0.0))
    assert (0, 0) == (counts(world, "group0").num_late, counts(world, "group1").num_late)


def test_newcomers_who_would_break_a_promise_wait_and_come_to_their_turn() -> None:
    scenario = fleet("rate")
    world = play(scenario)
    outcome = outcome_of(world, play(scenario, drafts=False))
    firsts = [seconds[0] for seconds in world.record.first_token_seconds]
    assert max(firsts[:8]) < 0.2  # they were alone
    assert max(firsts[8:]) > 0.5
    assert all(board.tokens for board in outcome.boards)
    assert all((board.in_time or 0.0) >= PROMISED_PART for board in outcome.boards)


def test_boards_without_an_slo_tell_nothing_of_it() -> None:
    scenario = make_scenario(seconds=2.0)
    (board,) = outcome_of(play(scenario), play(scenario, drafts=False)).boards
    assert board.in_time is None
