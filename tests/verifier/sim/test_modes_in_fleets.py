"""AWC in the verifier's own planner: boards are fused where drafts do not pay, and come back."""

from __future__ import annotations

import msgspec

from tests.support.ends.scenarios import make_scenario
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
