"""AWC in the verifier's own planner: boards are fused where drafts do not pay, and come back."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from shared.protocol.messages import AcceptanceMode
from tests.support.ends.scenarios import make_scenario
from verifier.policies import FixedPolicy
from verifier.sim.scenario import BoardGroup, Change, Scenario
from verifier.sim.world import World, play

# 16 boards, for which a token each lengthens a round by a quarter.
BOARDS = BoardGroup(count=16, acceptance=0.9, draft_tokens_per_second=150.0)
CHANGES = (Change(10.0, 0.1), Change(16.0, 0.9))


def played(boards: BoardGroup, seconds: float, *, drafts: bool = True) -> World:
    scenario = make_scenario(boards, seconds=seconds, token_milliseconds=1.0)
    rounds = msgspec.structs.replace(scenario.rounds, policy="awc")
    scenario: Scenario = msgspec.structs.replace(scenario, rounds=rounds)
    return play(scenario, drafts=drafts)


def tokens(world: World, since: int, until: int) -> float:
    return float(world.record.tokens[since:until].sum())


def test_boards_are_fused_while_their_drafts_are_bad_and_distributed_again_after_that() -> None:
    boards = msgspec.structs.replace(BOARDS, changes=CHANGES)
    world, alone = played(boards, 30.0), played(boards, 30.0, drafts=False)
    counts = [device.estimates.windows for device in world._devices]
    assert min(count.num_to_fused for count in counts) >= 1
    assert min(count.num_to_distributed for count in counts) >= 1
    modes = [stream.estimates.mode.is_fused for stream in world.planner.streams.values()]
    assert not any(modes)
    # Good drafts pay, before and after; bad ones are let be.
    assert tokens(world, 2, 10) > 1.5 * tokens(alone, 2, 10)
    assert tokens(world, 12, 16) > 0.97 * tokens(alone, 12, 16)
    assert tokens(world, 20, 30) > 1.5 * tokens(alone, 20, 30)


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_far_boards_lose_little_against_the_better_of_always_and_never(
    mode: AcceptanceMode,
) -> None:
    """At 40 ms a network that had met fused boards as unknown ones only lost 4 % in `coupled`."""
    boards = BoardGroup(
        count=16,
        acceptance=(0.6, 0.7, 0.8, 0.9),
        draft_tokens_per_second=(25.0, 40.0, 60.0),
        round_trip_milliseconds=40.0,
        mode=mode,
    )
    scenario = make_scenario(boards, seconds=15.0, fixed_milliseconds=40.0, token_milliseconds=0.16)
    fixed = msgspec.structs.replace(scenario.rounds, guard=False)
    always = play(msgspec.structs.replace(scenario, rounds=fixed), policy=FixedPolicy(4))
    awc = msgspec.structs.replace(scenario.rounds, policy="awc")
    chosen = play(msgspec.structs.replace(scenario, rounds=awc))
    never = play(scenario, drafts=False)
    better = max(geometric_mean(always), geometric_mean(never))
    assert geometric_mean(chosen) > 0.97 * better


def geometric_mean(world: World) -> float:
    return float(np.exp(np.log(world.record.tokens[5:].sum(axis=0)).mean()))
