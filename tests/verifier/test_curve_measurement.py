"""The cost curve is measured on a grid that the curve can be made of."""

from __future__ import annotations

from itertools import product

from shared.scripted_model import ScriptedModel
from verifier.cost_curve import CostCurve
from verifier.curve_measurement import CONTEXTS, measure_curve
from verifier.scripted_target import ScriptedTarget


def test_every_point_of_the_grid_is_measured_and_makes_a_curve() -> None:
    target = ScriptedTarget(ScriptedModel(8, seed=1), num_blocks=256)
    samples = measure_curve(target, max_round_tokens=20)
    assert list(product((1, 2, 4, 8, 16), CONTEXTS)) == [(t, c) for t, c, _ in samples]
    assert CostCurve.from_samples(samples).round_seconds(8, 128) > 0


def test_longer_rounds_are_seen_to_take_longer() -> None:
    target = ScriptedTarget(
        ScriptedModel(8, seed=1), num_blocks=256, delay_seconds=lambda tokens: 0.0005 * tokens
    )
    curve = CostCurve.from_samples(measure_curve(target, max_round_tokens=32))
    assert curve.round_seconds(32, 128) > curve.round_seconds(1, 128) + 0.01


def test_a_context_longer_than_the_model_reads_is_cut() -> None:
    target = ScriptedTarget(ScriptedModel(8, seed=1), num_blocks=64, context_tokens=256)
    assert 2 * len(CONTEXTS) == len(measure_curve(target, max_round_tokens=2))
