"""An estimate begins with its first sample and follows the others."""

from __future__ import annotations

import pytest

from shared.speculation.smoothing import smoothed


def test_the_first_sample_is_the_estimate() -> None:
    assert 5.0 == smoothed(None, 5.0, 0.1)


def test_a_sample_moves_the_estimate_by_its_part_of_the_way() -> None:
    assert 4.25 == smoothed(4.0, 5.0, 0.25)
    assert 0.0 == smoothed(0.0, 0.0, 0.25)  # an estimate of 0 is one


def test_the_same_sample_again_and_again_is_met() -> None:
    estimate: float | None = 100.0
    for _ in range(200):
        estimate = smoothed(estimate, 3.0, 0.1)
    assert 3.0 == pytest.approx(estimate)
