"""Small scenarios for tests."""

from __future__ import annotations

from typing import Any

from verifier.rounds.settings import RoundsSection
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection


def make_scenario(
    *groups: BoardGroup,
    seconds: float = 10.0,
    seed: int = 1,
    fixed_milliseconds: float = 60.0,
    token_milliseconds: float = 0.24,
    target: TargetSection | None = None,
    **rounds: Any,
) -> Scenario:
    """Boards of 100 tokens/s and acceptance 0.8 at rounds of 60 ms, unless told otherwise.

    What drafts pay is not measured: such a measurement is longer than these scenarios.
    """
    groups = groups or (BoardGroup(draft_tokens_per_second=100.0),)
    return Scenario(
        name="test",
        run=ScenarioSection(seconds=seconds, seed=seed),
        target=target
        or TargetSection(
            fixed_milliseconds=fixed_milliseconds, token_milliseconds=token_milliseconds
        ),
        rounds=RoundsSection(**({"measure_payoff": False} | rounds)),
        boards={f"group{i}": group for i, group in enumerate(groups)},
    )
