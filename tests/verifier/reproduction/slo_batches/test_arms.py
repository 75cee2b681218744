"""Arms over SLOs in one world each: what each of them keeps."""

from __future__ import annotations

import msgspec
import pytest

from verifier.policies import PolicyName
from verifier.reproduction.slo_batches.arms import ARMS, Job, play_job, play_planner
from verifier.reproduction.slo_batches.kept_slos import KEPT_PART, SloCount
from verifier.reproduction.slo_batches.world import scenario_of
from verifier.sim.scenario import Scenario


def crowded(policy: PolicyName, *, promises: bool) -> Scenario:
    """More devices than the target has time for."""
    scenario = scenario_of(60, seed=1, promises=promises)
    run = msgspec.structs.replace(scenario.run, seconds=12.0)
    rounds = msgspec.structs.replace(scenario.rounds, policy=policy)
    return msgspec.structs.replace(scenario, run=run, rounds=rounds)


@pytest.mark.parametrize("policy", ["rate", "goodspeed"])
def test_a_crowd_with_promises_keeps_them_and_one_without_does_not(policy: PolicyName) -> None:
    promised = play_planner(crowded(policy, promises=True))
    without = play_planner(crowded(policy, promises=False))
    assert promised.in_time >= KEPT_PART > without.in_time
    assert min(promised.in_time_by_class.values()) >= KEPT_PART
    assert without.in_time_by_class["strict"] < 0.5


@pytest.mark.parametrize("arm", ["no batches", "greedy batches", "ordered batches"])
def test_batches_that_know_no_deadline_do_not_keep_them_in_a_crowd(arm: str) -> None:
    kept = play_job(Job(60, arm, 1))  # type: ignore[arg-type]
    assert kept.in_time_by_class["strict"] < KEPT_PART


@pytest.mark.parametrize("arm", ARMS[1:5])
def test_the_same_job_has_the_same_outcome(arm: str) -> None:
    job = Job(12, arm, 2)  # type: ignore[arg-type]
    assert play_job(job) == play_job(job)


def test_a_stream_that_never_began_waits_to_the_end() -> None:
    count = SloCount()
    count.open(1, "usual", 0.1, 2.0)
    count.open(2, "usual", 0.1, 3.0)
    count.take(2, 1, 4.0)
    count.take(2, 2, 4.05)
    count.take(2, 1, 4.35)
    kept = count.kept(10.0)
    assert (0.4, 0.2) == (kept.tokens_per_second, kept.in_time_per_second)
    assert kept.in_time == pytest.approx(2 / 3)
    assert (0.0, 4.5) == (kept.streams_kept, kept.first_token_p50_seconds)
