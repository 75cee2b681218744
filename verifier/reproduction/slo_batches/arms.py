"""Who is compared over SLOs: batches as published, and our own planner with promises and without.

What plans by acceptance or speed as published (DiP-SD, and the lengths of all that wait) is told
the truth; our planner learns it.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
import numpy as np

from shared.speculation.goodput import expected_tokens_up_to
from verifier.reproduction.slo_batches.batch_rules import (
    AllThatWait,
    BatchRule,
    DeadlineBatches,
    OneByOne,
    OrderedBatches,
)
from verifier.reproduction.slo_batches.kept_slos import KeptSlos, SloCount
from verifier.reproduction.slo_batches.ordered_batches import CheckTime, Users, ordered_plan
from verifier.reproduction.slo_batches.waiting_world import WaitingWorld
from verifier.reproduction.slo_batches.world import scenario_of, slo_class_of
from verifier.rounds.planner import StreamResult
from verifier.sim.clock import Clock, HeapClock
from verifier.sim.fleet import fleet_of
from verifier.sim.round_model import line_seconds
from verifier.sim.scenario import Scenario
from verifier.sim.world import SimDevice, World

ArmName = Literal[
    "target alone",
    "no batches",
    "greedy batches",
    "ordered batches",
    "deadline batches",
    "ours, no SLO",
    "ours",
]
ARMS: tuple[ArmName, ...] = get_args(ArmName)
# The longest draft of streams that wait; DiP-SD's own bound is not known, its reference is 7.
MAX_LENGTH = 10
# What those that wait reckon with: half of the devices in a check, with four tokens each.
RECKONED_TOKENS = 4


class Job(msgspec.Struct, frozen=True):
    """One arm in one world."""

    num_devices: int
    arm: ArmName
    seed: int


def play_job(job: Job) -> KeptSlos:
    """What came of it."""
    scenario = scenario_of(job.num_devices, job.seed, promises=job.arm == "ours")
    if job.arm in ("target alone", "ours, no SLO", "ours"):
        return play_planner(scenario, drafts=job.arm != "target alone")
    return WaitingWorld(scenario, *_rule(scenario, job.arm)).play()


def play_planner(scenario: Scenario, *, drafts: bool = True) -> KeptSlos:
    """Our planner in that world."""
    clock = HeapClock()
    world = _CountedWorld(scenario, clock, drafts=drafts)
    clock.run(scenario.run.seconds)
    return world.count.kept(scenario.run.seconds)


class _CountedWorld(World):
    """Counts what the planner commits as it is counted for all arms."""

    def __init__(self, scenario: Scenario, clock: Clock, *, drafts: bool) -> None:
        super().__init__(scenario, clock, drafts=drafts)
        self.count = SloCount()

    def new_stream(self, device: SimDevice) -> None:
        """See `World`."""
        super().new_stream(device)
        self.count.open(self.num_opened, *slo_class_of(device.board), self._clock.now)

    def deliver(self, results: list[StreamResult]) -> None:
        """See `World`."""
        for result in results:
            number, num_tokens = result.stream.number, result.settled.num_tokens
            self.count.take(number, num_tokens, self._clock.now)
        super().deliver(results)


def users_of(scenario: Scenario) -> Users:
    """The boards of a scenario as DiP-SD knows its users."""
    boards = fleet_of(scenario)
    return Users(
        acceptance_rates=np.array([board.acceptance for board in boards]),
        draft_token_seconds=np.array([board.spec.token_seconds for board in boards]),
        travel_seconds=np.array([board.spec.round_trip_seconds for board in boards]),
    )


def check_time_of(scenario: Scenario) -> CheckTime:
    """How long a check takes in a scenario."""
    target = scenario.target
    return CheckTime(1e-3 * target.fixed_milliseconds, 1e-3 * target.token_milliseconds)


def _rule(scenario: Scenario, arm: ArmName) -> tuple[BatchRule, tuple[int, ...]]:
    users, target = users_of(scenario), scenario.target
    if arm == "ordered batches":
        plan = ordered_plan(users, check_time_of(scenario), MAX_LENGTH)
        return OrderedBatches(plan), plan.lengths
    reckoned = line_seconds(target, RECKONED_TOKENS * len(users.travel_seconds) // 2)
    lengths = np.arange(1, MAX_LENGTH + 1)
    seconds = lengths * users.draft_token_seconds[:, None] + users.travel_seconds[:, None]
    speeds = expected_tokens_up_to(users.acceptance_rates, MAX_LENGTH) / (seconds + reckoned)
    best = tuple((speeds.argmax(axis=1) + 1).tolist())
    if arm == "no batches":
        return OneByOne(), best
    if arm == "greedy batches":
        return AllThatWait(), best
    return DeadlineBatches(lambda num_tokens: line_seconds(target, num_tokens)), best
