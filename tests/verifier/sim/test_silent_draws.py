"""Draws that are played at one go are what they would be one by one, to the bit."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.policies import PolicyName
from verifier.rounds.settings import RoundsSection
from verifier.sim import board
from verifier.sim.outcome import outcome_of
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection
from verifier.sim.world import play

POLICIES: tuple[PolicyName, ...] = ("rate", "goodspeed", "fixed")


def fleet(seed: int, policy: PolicyName, speed: float, slowdown: float) -> Scenario:
    """Boards that draft ahead, doubt or not, change, stand still, and ask again."""
    boards = BoardGroup(
        count=3,
        acceptance=(0.6, 0.9),
        draft_tokens_per_second=(speed, 2.0 * speed),
        round_trip_milliseconds=(5.0, 80.0),
        output_tokens=40,
        think_seconds=0.2,
    )
    unsure = {"confidence_rates": (0.4, 0.9), "confidence_shares": (0.5, 0.5)}
    return Scenario(
        name="silent",
        run=ScenarioSection(seconds=4.0, seed=seed),
        target=TargetSection(
            fixed_milliseconds=50.0, token_milliseconds=0.5, board_slowdown=slowdown
        ),
        rounds=RoundsSection(policy=policy, measure_payoff=False),
        boards={
            "plain": boards,
            "unsure": msgspec.structs.replace(boards, **unsure),
            "many": msgspec.structs.replace(boards, streams=2),
        },
    )


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(1, 10_000),
    policy=st.sampled_from(POLICIES),
    speed=st.floats(20.0, 400.0),
    slowdown=st.sampled_from((0.0, 0.2)),
)
def test_a_run_of_draws_is_its_draws(
    seed: int, policy: PolicyName, speed: float, slowdown: float
) -> None:
    """All figures are the same bytes; otherwise a fleet would hang on how it is played."""
    scenario = fleet(seed, policy, speed, slowdown)
    at_one_go = play(scenario)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board, "num_silent_draws", lambda *_: 0)
        one_by_one = play(scenario)
    alone = play(scenario, drafts=False)
    figures = [msgspec.json.encode(outcome_of(world, alone)) for world in (one_by_one, at_one_go)]
    assert figures[0] == figures[1]


def test_runs_are_longer_than_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing is gained, and the test above shows nothing."""
    forecast, lengths = board.num_silent_draws, list[int]()

    def noted(*arguments: object) -> int:
        lengths.append(forecast(*arguments))  # type: ignore[arg-type]
        return lengths[-1]

    monkeypatch.setattr(board, "num_silent_draws", noted)
    play(fleet(1, "rate", 100.0, 0.0))
    assert sum(lengths) > len(lengths)
