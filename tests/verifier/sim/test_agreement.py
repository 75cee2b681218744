"""The simulator and the verifier's own engine make the same rounds of the same scenario."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.ends.scenarios import make_scenario
from tests.support.ends.sim_driver import play_on_the_engine
from verifier.sim.scenario import BoardGroup, Scenario, Stall, TargetSection
from verifier.sim.world import World, play

MIXED = (
    BoardGroup(count=3, draft_tokens_per_second=(30.0, 90.0, 160.0), jitter=0.3, loss=0.02),
    BoardGroup(
        count=2,
        draft_tokens_per_second=120.0,
        round_trip_milliseconds=(5.0, 120.0),
        streams=2,
        output_tokens=40,
        prompt_tokens=150,
        stalls=(Stall(2.0, 3.0),),
        leaves_at_seconds=7.0,
    ),
)
IN_REJECTION = (BoardGroup(count=2, mode="rejection", draft_tokens_per_second=100.0),)
ON_SHARED_CORES = TargetSection(
    fixed_milliseconds=15.0, token_milliseconds=0.5, jitter=0.1, board_slowdown=1.5
)
NEAR = (BoardGroup(count=3, draft_tokens_per_second=120.0, round_trip_milliseconds=1.0),)
AT_A_BARRIER = (BoardGroup(count=3, draft_tokens_per_second=(50.0, 100.0)),)
# Twelve tokens of a round are in time for the strict, and some of the others wait for a promise.
PROMISED = (
    BoardGroup(count=3, profile="pi5", slo_milliseconds=66.0, output_tokens=60),
    BoardGroup(count=18, profile="pi5", slo_milliseconds=200.0, output_tokens=60),
)


def counts(world: World) -> dict[str, list[float]]:
    record = world.record
    totals = {
        name: getattr(record, name).sum(axis=0)
        for name in ("tokens", "tested", "accepted", "rejections", "stream_rounds")
    }
    totals["rounds"] = np.array([record.rounds.sum(), record.round_tokens.sum()])
    return {name: values.tolist() for name, values in totals.items()}


@pytest.mark.parametrize(
    "scenario",
    [
        make_scenario(*MIXED, seed=1),
        make_scenario(*MIXED, seed=2, policy="greedy", slowdown_limit=1.0),
        make_scenario(*MIXED, seed=5, policy="rate"),
        make_scenario(*IN_REJECTION, seed=6, policy="rate"),
        make_scenario(*IN_REJECTION, seed=3),
        make_scenario(*AT_A_BARRIER, seed=4, barrier=True, budget_tokens=12, guard=False),
        make_scenario(*NEAR, seed=7, target=ON_SHARED_CORES, measure_payoff=True),
    ],
    ids=["mixed", "greedy", "rate", "rate-rejection", "rejection", "barrier", "measured"],
)
def test_simulator_and_engine_agree(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = counts(play(scenario))
    assert min(simulated["tested"]) > 0, "every board's drafts were tested"
    assert simulated == counts(play_on_the_engine(scenario, monkeypatch))


def test_they_agree_on_who_waits_for_a_promise_and_which_tokens_are_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = make_scenario(*PROMISED, seed=8, token_milliseconds=0.5, slowdown_limit=10.0)
    simulated = play(scenario)
    engine = play_on_the_engine(scenario, monkeypatch)
    assert simulated.planner.promises.waiting, "some wait"
    assert counts(simulated) == counts(engine)
    assert simulated.planner.promises.counts == engine.planner.promises.counts
    assert not any(one.num_late for one in simulated.planner.promises.counts.values())
