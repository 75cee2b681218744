"""Fairness numbers at their known values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.fairness import jain_index, log_utility


@pytest.mark.parametrize(
    ("goodputs", "index"),
    [
        ([], 1.0),
        ([0.0, 0.0], 1.0),
        ([3.0], 1.0),
        ([2.0, 2.0, 2.0], 1.0),
        ([1.0, 0.0, 0.0, 0.0], 0.25),
        ([1.0, 3.0], 0.8),
    ],
)
def test_jain_index_runs_from_one_for_all_equal_to_one_nth(
    goodputs: list[float], index: float
) -> None:
    assert index == pytest.approx(jain_index(goodputs))


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=50))
def test_jain_index_stays_in_its_range(goodputs: list[float]) -> None:
    assert 1.0 / len(goodputs) - 1e-12 <= jain_index(goodputs) <= 1.0 + 1e-12


def test_utility_is_the_weighted_sum_of_logarithms() -> None:
    assert math.log(6.0) == pytest.approx(log_utility([2.0, 3.0]))
    assert 2.0 * math.log(2.0) + math.log(3.0) == pytest.approx(log_utility([2.0, 3.0], [2.0, 1.0]))
    assert 0.0 == log_utility([])


def test_a_starved_device_makes_the_utility_minus_infinity() -> None:
    assert -math.inf == log_utility([5.0, 0.0])
