"""A simulated world does what its scenario says, the same whenever it is played."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.ends.scenarios import make_scenario
from verifier.policies import FixedPolicy
from verifier.sim.outcome import Outcome, outcome_of
from verifier.sim.scenario import BoardGroup, Change, Scenario, Stall, TargetSection
from verifier.sim.world import play


def outcome(scenario: Scenario) -> Outcome:
    return outcome_of(play(scenario), play(scenario, drafts=False))


def test_the_same_scenario_and_seed_have_the_same_outcome_to_the_last_byte() -> None:
    first, again = (msgspec.json.encode(outcome(make_scenario())) for _ in range(2))
    assert first == again
    assert first != msgspec.json.encode(outcome(make_scenario(seed=2)))


def test_the_target_alone_says_a_token_a_round() -> None:
    world = play(make_scenario(token_milliseconds=0.0), drafts=False)
    assert 0 == world.record.tested.sum()
    assert pytest.approx(10.0 / 0.06, abs=2) == world.record.tokens.sum()


def test_a_good_board_makes_its_stream_faster_and_a_hopeless_one_no_slower() -> None:
    good = BoardGroup(draft_tokens_per_second=150.0, acceptance=0.9)
    hopeless = BoardGroup(draft_tokens_per_second=4.0)
    fast, slow = outcome(make_scenario(good, hopeless, seconds=30.0)).boards
    assert fast.of_alone is not None
    assert slow.of_alone is not None
    assert fast.of_alone > 2.0
    assert slow.of_alone > 0.94


def test_drafts_are_right_as_often_as_the_scenario_says() -> None:
    board = BoardGroup(count=4, draft_tokens_per_second=150.0, acceptance=0.7)
    outcomes = outcome(make_scenario(board, seconds=60.0)).boards
    rates = [board.acceptance or 0.0 for board in outcomes]
    assert pytest.approx(0.7, abs=0.04) == sum(rates) / len(rates)


def test_in_rejection_streams_wait_for_their_boards_and_gain_all_the_same() -> None:
    board = BoardGroup(mode="rejection", draft_tokens_per_second=200.0, acceptance=0.9)
    (played,) = outcome(make_scenario(board, seconds=30.0)).boards
    assert played.of_alone is not None
    assert played.of_alone > 1.5


def test_a_stalled_board_gets_what_the_target_alone_gives() -> None:
    group = BoardGroup(draft_tokens_per_second=150.0, acceptance=0.9, stalls=(Stall(4.0, 8.0),))
    tokens = play(make_scenario(group)).record.tokens[:, 0]
    assert tokens[2] > 25.0
    assert max(tokens[5:8]) < 18.0
    assert tokens[9] > 25.0


def test_a_change_of_acceptance_is_felt() -> None:
    group = BoardGroup(draft_tokens_per_second=150.0, acceptance=0.95, changes=(Change(5.0, 0.3),))
    tokens = play(make_scenario(group)).record.tokens[:, 0]
    assert tokens[1:5].mean() > 1.5 * tokens[6:].mean()


def test_boards_come_and_go() -> None:
    group = BoardGroup(joins_at_seconds=3.0, leaves_at_seconds=6.0, draft_tokens_per_second=100.0)
    record = play(make_scenario(group)).record
    assert 0.0 == record.tokens[:3].sum() == record.tokens[7:].sum()
    assert record.tokens[4, 0] > 10.0
    assert pytest.approx(3.0, abs=0.06) == record.stream_seconds.sum()


def test_streams_end_and_others_follow() -> None:
    group = BoardGroup(output_tokens=20, think_seconds=0.5, prompt_tokens=100, streams=2)
    world = play(make_scenario(group, seconds=20.0))
    assert len(world.record.first_token_seconds[0]) > 10
    assert world.record.stream_seconds.sum() < 2 * 20.0


@pytest.mark.parametrize("kilobits", [0.0, 2.0])
def test_a_narrow_link_delays_what_is_large(kilobits: float) -> None:
    group = BoardGroup(
        prompt_tokens=500,
        jitter=0.0,
        round_trip_milliseconds=20.0,
        kilobits_per_second=kilobits,
        draft_tokens_per_second=100.0,
    )
    (first,) = play(make_scenario(group, seconds=20.0)).record.first_token_seconds[0]
    assert (first > 2.0) == bool(kilobits), "Opened carries a kilobyte of prompt"


def test_stairs_are_what_rounds_cost_and_what_the_planner_expects() -> None:
    target = TargetSection(fixed_milliseconds=50.0, token_milliseconds=1.0, stair_tokens=32)
    scenario = make_scenario(BoardGroup(count=2), target=target)
    world = play(scenario, policy=FixedPolicy(0))
    record = world.record
    assert pytest.approx(0.082, abs=1e-6) == record.round_seconds.sum() / record.rounds.sum()
    curve = world.planner.curve
    assert pytest.approx(0.032, rel=0.02) == curve.round_seconds(33, 128) - curve.round_seconds(
        32, 128
    )


def test_prompts_cost_what_long_rounds_do_and_the_planner_expects_it() -> None:
    target = TargetSection(
        fixed_milliseconds=50.0,
        token_milliseconds=1.0,
        long_round_tokens=10,
        long_round_token_milliseconds=0.1,
    )
    group = BoardGroup(prompt_tokens=110, output_tokens=1, join_spread_seconds=0.0)
    world = play(make_scenario(group, target=target, seconds=0.3), policy=FixedPolicy(0))
    assert pytest.approx(0.07) == world.record.round_seconds.sum()
    assert pytest.approx(0.07, rel=0.01) == world.planner.curve.round_seconds(110, 128)


def test_values_of_a_list_are_dealt_evenly() -> None:
    group = BoardGroup(count=8, acceptance=(0.2, 0.5), draft_tokens_per_second=(50.0, 60.0))
    boards = play(make_scenario(group, seconds=0.2)).boards
    assert [0.2] * 4 + [0.5] * 4 == sorted(board.acceptance for board in boards)
    assert {0.02} == {board.spec.round_trip_seconds for board in boards}
