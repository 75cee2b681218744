"""A deadline is far beyond what the curve says, and never below the least one."""

from __future__ import annotations

from verifier.cost_curve.curve import CostCurve
from verifier.target.round import Round, RoundItem
from verifier.workers.round_deadline import TIMES_EXPECTED, RoundDeadline

CURVE = CostCurve.from_samples([(1, 1, 0.1), (101, 1, 1.1)])


def round_of(num_tokens: int) -> Round:
    return Round((RoundItem(0, tuple(range(num_tokens)), 0, (0,), None),))


def test_a_deadline_follows_the_curve() -> None:
    deadline = RoundDeadline(2.0)
    assert 2.0 == deadline(round_of(50))
    deadline.follow(CURVE)
    assert 2.0 == deadline(round_of(1))
    expected = TIMES_EXPECTED * CURVE.round_seconds(101, 101.0)
    assert abs(deadline(round_of(101)) - expected) < 1e-9
