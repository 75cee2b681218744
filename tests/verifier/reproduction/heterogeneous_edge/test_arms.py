"""The joint plan and its baselines over the same users."""

from __future__ import annotations

import pytest

from verifier.reproduction.heterogeneous_edge.arms import ARMS, ArmName, EdgePlanner
from verifier.reproduction.heterogeneous_edge.models import SHAPES
from verifier.reproduction.heterogeneous_edge.pipeline import cycle_seconds
from verifier.reproduction.heterogeneous_edge.scenario import (
    CellSection,
    EdgeScenario,
    StationSection,
)
from verifier.reproduction.heterogeneous_edge.stage_times import StageWork, num_stages
from verifier.reproduction.heterogeneous_edge.stations import (
    CARDS,
    Efficiency,
    execution_time,
    fit,
    measured_efficiency,
)
from verifier.reproduction.heterogeneous_edge.world import draw_users

SPECULATIVE: tuple[ArmName, ...] = tuple(arm for arm in ARMS if "autoregressive" not in arm)


@pytest.fixture(params=[("llama-1.1b", 1.0), ("tinyllama-1.1b", 4.0)], ids=["data-sheet", "slow"])
def scenario(request: pytest.FixtureRequest) -> EdgeScenario:
    model, slowness = request.param
    stations = StationSection(draft_model=model, small_slowness=slowness)
    return EdgeScenario(cell=CellSection(users=45), stations=stations)


def test_no_baseline_that_speculates_is_shorter(scenario: EdgeScenario) -> None:
    planner = EdgePlanner(scenario, draw_users(scenario, 1))
    plans = {arm: planner.plan(arm) for arm in ARMS}
    joint = plans["joint"]
    one_stage = joint.decode_seconds / joint.num_stages
    for arm in SPECULATIVE:
        assert joint.seconds <= plans[arm].seconds + one_stage, arm
        assert 45 == sum(plans[arm].batch_sizes)
    assert joint.upload_seconds < plans["uniform bandwidth"].upload_seconds
    assert joint.decode_seconds == plans["uniform bandwidth"].decode_seconds
    assert 0 == plans["autoregressive"].draft_length
    assert 2048 == plans["autoregressive"].num_stages


def test_the_length_is_the_best_of_all(scenario: EdgeScenario) -> None:
    users = draw_users(scenario, 2)
    joint = EdgePlanner(scenario, users).plan("joint")
    work = StageWork(scenario, users.input_tokens)
    for length in range(1, 11):
        cycle = cycle_seconds(work.times(length).of(joint.batch_sizes))
        assert joint.decode_seconds <= (num_stages(2048, 0.8, length) + 1.5) * cycle


def test_every_batch_fits_into_the_small_station(scenario: EdgeScenario) -> None:
    users = draw_users(scenario, 3)
    room = scenario.stations.cache_bytes
    of_token = SHAPES[scenario.stations.draft_model].cache_bytes
    planner = EdgePlanner(scenario, users)
    for arm in SPECULATIVE:
        end = 0
        for size in planner.plan(arm).batch_sizes:
            end += size
            assert size * (int(users.input_tokens[end - 1]) + 2048) * of_token <= room


def test_users_are_the_same_for_every_station_and_cell() -> None:
    few, many = (EdgeScenario(cell=CellSection(users=count)) for count in (10, 40))
    slow = EdgeScenario(stations=StationSection(small_slowness=9.0))
    usual = EdgeScenario()
    assert draw_users(usual, 5).input_tokens.tolist() == draw_users(slow, 5).input_tokens.tolist()
    some, all_of_them = (set(draw_users(s, 5).efficiencies.tolist()) for s in (few, many))
    assert some < all_of_them


def test_shapes_have_the_weights_that_their_names_say() -> None:
    sizes = {name: shape.weights_bytes / 2e9 for name, shape in SHAPES.items()}
    assert 0.068 == pytest.approx(sizes["llama-68m"], rel=0.01)
    assert 1.10 == pytest.approx(sizes["tinyllama-1.1b"], rel=0.01)
    assert 6.74 == pytest.approx(sizes["llama-7b"], rel=0.01)
    assert 13.02 == pytest.approx(sizes["llama-13b"], rel=0.01)


def test_a_fit_finds_its_own_constants_again() -> None:
    time = execution_time(SHAPES["llama-7b"], CARDS["rtx-4500"], Efficiency(0.8, 1.0))
    samples = [
        (work, time.seconds_per_flop * work + time.fixed_seconds) for work in (1e12, 2e12, 5e12)
    ]
    again = fit(samples)
    assert time.seconds_per_flop == pytest.approx(again.seconds_per_flop)
    assert time.fixed_seconds == pytest.approx(again.fixed_seconds)


def test_what_we_measured_lies_within_the_data_sheet_or_a_little_above() -> None:
    efficiency = measured_efficiency()
    assert 0.5 < efficiency.of_flops < 1.0
    assert 0.8 < efficiency.of_bytes < 1.1
