"""How long the simulated target's rounds take, and the cost curve that its planner begins with."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from verifier.cost_curve.curve import MAX_GRID_LINES, CostCurve
from verifier.cost_curve.look_back import chunks_of
from verifier.sim.scenario import Scenario, TargetSection
from verifier.target.round import Round

# Context says nothing on a line; a curve needs one.
_CONTEXT_TOKENS = 128


class RoundModel:
    """The truth about rounds; a planner learns its own curve."""

    def __init__(
        self, scenario: Scenario, load: Callable[[], tuple[float, float]] | None = None
    ) -> None:
        """`load`: the time, and for how long boards have computed by then, all together."""
        self._target = scenario.target
        self._measured = (
            None if scenario.curve_json is None else CostCurve.from_json(scenario.curve_json)
        )
        self._random = Random(f"{scenario.run.seed}-rounds")
        self._load = load if scenario.target.board_slowdown else None
        self._loaded = (0.0, 0.0)

    def seconds(self, round_: Round) -> float:
        """Of this round."""
        if self._measured is not None:
            seconds = self._measured.round_seconds(
                round_.num_tokens, round_.context_tokens, chunks_of(round_)
            )
        else:
            seconds = line_seconds(self._target, round_.num_tokens)
        if self._target.jitter:
            seconds *= math.exp(self._target.jitter * self._random.gauss(0.0, 1.0))
        return seconds * (1.0 + self._target.board_slowdown * self._num_computing())

    def _num_computing(self) -> float:
        """How many boards computed since the round before, on average over time."""
        if self._load is None:
            return 0.0
        (before, computed_before), (now, computed) = self._loaded, self._load()
        self._loaded = now, computed
        return (computed - computed_before) / (now - before) if now > before else 0.0


def line_seconds(target: TargetSection, num_tokens: int) -> float:
    """c0 + c1 * tokens, these rounded up to a stair; of a long round's last ones another c1."""
    num_paid = -(-num_tokens // target.stair_tokens) * target.stair_tokens
    most_short = num_paid if target.long_round_tokens is None else target.long_round_tokens
    milliseconds = target.fixed_milliseconds + target.token_milliseconds * min(num_paid, most_short)
    further = max(num_paid - most_short, 0) * target.long_round_token_milliseconds
    return 1e-3 * (milliseconds + further)


def planner_curve(scenario: Scenario, most_tokens: int) -> CostCurve:
    """What a verifier would have measured before its first round, of up to so many tokens."""
    if scenario.curve_json is not None:
        return CostCurve.from_json(scenario.curve_json)
    target = scenario.target
    stair = target.stair_tokens
    if stair == 1:
        counts = {1, most_tokens + 1}
    else:
        num_stairs = min(-(-most_tokens // stair), MAX_GRID_LINES // 2 - 1)
        counts = {i * stair + j for i in range(num_stairs + 1) for j in (0, 1)} - {0}
    if target.long_round_tokens is not None:
        counts.add(target.long_round_tokens)
    return CostCurve.from_samples(
        [(count, _CONTEXT_TOKENS, line_seconds(target, count)) for count in sorted(counts)]
    )
