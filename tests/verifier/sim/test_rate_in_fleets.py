"""`rate` where a budget and the published rule did badly: whole fleets in simulated time."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from shared.speculation.goodput import FloatArray
from tests.support.ends.scenarios import make_scenario
from verifier.policies import PolicyName
from verifier.sim.scenario import BoardGroup, Change, Scenario, TargetSection
from verifier.sim.world import World, play

NO_LIMIT = 10.0


def played(scenario: Scenario, policy: PolicyName = "rate", limit: float = 0.05) -> World:
    rounds = msgspec.structs.replace(scenario.rounds, policy=policy, slowdown_limit=limit)
    return play(msgspec.structs.replace(scenario, rounds=rounds))


def of_alone(world: World, first_bin: int = 0) -> FloatArray:
    """Tokens/s of each board over what the target alone gives it, from a bin on."""
    target, record = world.scenario.target, world.record
    num_boards = world.scenario.num_boards
    alone = 1e3 / (target.fixed_milliseconds + target.token_milliseconds * num_boards)
    seconds = record.stream_seconds[first_bin:].sum(axis=0)
    ratios: FloatArray = record.tokens[first_bin:].sum(axis=0) / seconds / alone
    return ratios


def mean(ratios: FloatArray) -> float:
    return float(np.exp(np.log(ratios).mean()))


def test_good_boards_are_found_where_a_token_costs_more_than_a_first_guess_is_worth() -> None:
    boards = BoardGroup(count=48, acceptance=0.95, draft_tokens_per_second=120.0)
    ratios = of_alone(played(make_scenario(boards, seconds=20.0, token_milliseconds=2.4)))
    assert mean(ratios) > 1.1
    assert ratios.min() > 1.0


def test_newcomers_are_soon_as_well_off_as_those_who_were_there() -> None:
    incumbents = BoardGroup(count=12, acceptance=0.9, draft_tokens_per_second=120.0)
    newcomers = msgspec.structs.replace(incumbents, count=24, joins_at_seconds=5.0)
    world = played(
        make_scenario(incumbents, newcomers, seconds=30.0, token_milliseconds=1.0), limit=NO_LIMIT
    )
    ratios = of_alone(world, first_bin=15)
    assert mean(ratios[12:]) > 0.95 * mean(ratios[:12]) > 1.2


@pytest.mark.parametrize(("policy", "least", "most"), [("rate", 1.1, 1.3), ("goodspeed", 1.0, 1.1)])
def test_the_limit_is_on_what_came_to_a_test_and_not_on_what_was_granted(
    policy: PolicyName, least: float, most: float
) -> None:
    boards = BoardGroup(
        count=50,
        acceptance=(0.6, 0.7, 0.8, 0.9),
        draft_tokens_per_second=(25.0, 40.0, 60.0),
        round_trip_milliseconds=10.0,
    )
    scenario = make_scenario(boards, fixed_milliseconds=40.0, token_milliseconds=0.16)
    ratios = of_alone(played(scenario, policy))
    assert least < mean(ratios) < most
    assert ratios.min() > 0.93


def test_the_slowest_of_many_cold_boards_keeps_the_limit_in_its_first_ten_seconds() -> None:
    boards = BoardGroup(
        count=48,
        acceptance=(0.45, 0.55, 0.65, 0.75, 0.85),
        draft_tokens_per_second=(80.0, 120.0, 165.0),
        round_trip_milliseconds=(5.0, 20.0, 50.0, 100.0, 200.0),
    )
    ratios = of_alone(played(make_scenario(boards)))
    assert ratios.min() > 0.943  # half as fast an answer: 0.939
    assert mean(ratios) > 1.11


def test_tokens_up_to_the_next_stair_are_free() -> None:
    boards = BoardGroup(
        count=32,
        acceptance=(0.5, 0.7, 0.9),
        draft_tokens_per_second=(80.0, 120.0, 165.0),
        round_trip_milliseconds=(5.0, 20.0, 50.0, 100.0),
    )
    target = TargetSection(fixed_milliseconds=60.0, token_milliseconds=0.48, stair_tokens=32)
    scenario = make_scenario(boards, target=target)
    by_policy = [mean(of_alone(played(scenario, policy))) for policy in ("goodspeed", "rate")]
    assert by_policy[0] < 1.0 < 1.03 < by_policy[1]
    assert mean(of_alone(played(scenario, limit=NO_LIMIT))) > 1.25


def test_a_step_of_all_acceptance_rates_is_followed_within_seconds() -> None:
    of_fleet = {
        "count": 8,
        "draft_tokens_per_second": (35.0, 80.0, 120.0, 165.0),
        "round_trip_milliseconds": (5.0, 20.0, 50.0, 100.0),
    }
    falls = BoardGroup(acceptance=0.9, changes=(Change(15.0, 0.5),), **of_fleet)
    rises = BoardGroup(acceptance=0.5, changes=(Change(15.0, 0.9),), **of_fleet)
    world = played(make_scenario(falls, rises, seconds=45.0), limit=NO_LIMIT)
    tokens = np.log(np.maximum(world.record.tokens, 0.5)).mean(axis=1)
    level = float(np.exp(tokens[25:].mean()))
    assert float(np.exp(tokens[17:22].mean())) > 0.93 * level


def test_drafts_are_tested_soon_after_long_prompts() -> None:
    """All read a prompt first, in rounds that take many times as long as those without one."""
    boards = BoardGroup(
        count=16, acceptance=0.85, draft_tokens_per_second=800.0, round_trip_milliseconds=2.0
    )
    target = TargetSection(fixed_milliseconds=12.0, token_milliseconds=0.03)
    tokens = []
    for prompt_tokens in (1, 600):
        group = msgspec.structs.replace(boards, prompt_tokens=prompt_tokens)
        record = played(make_scenario(group, seconds=3.0, target=target)).record
        tokens.append(float(record.tokens[1:].sum()))  # prompts take most of the first second
    assert tokens[1] > 0.9 * tokens[0]
