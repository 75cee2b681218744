"""Quantiles of durations in bounded memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.fleet.latency_histogram import (
    LONGEST_SECONDS,
    PRECISION,
    SHORTEST_SECONDS,
    LatencyHistogram,
)

DURATIONS = st.lists(st.floats(SHORTEST_SECONDS, LONGEST_SECONDS), min_size=1, max_size=200)


@given(DURATIONS, st.floats(0.01, 1.0))
def test_a_quantile_is_that_of_the_sorted_samples_to_two_percent(
    durations: list[float], part: float
) -> None:
    histogram = LatencyHistogram()
    for seconds in durations:
        histogram.observe(seconds)
    exact = sorted(durations)[math.ceil(part * len(durations)) - 1]
    assert exact == pytest.approx(histogram.quantile(part), rel=PRECISION)
    assert len(durations) == histogram.num_samples


def test_without_samples_there_is_no_quantile() -> None:
    assert LatencyHistogram().quantile(0.5) is None


@pytest.mark.parametrize(
    ("seconds", "counted_as"), [(0.0, SHORTEST_SECONDS), (1e9, LONGEST_SECONDS)]
)
def test_durations_out_of_range_count_as_the_shortest_or_longest(
    seconds: float, counted_as: float
) -> None:
    histogram = LatencyHistogram()
    histogram.observe(seconds)
    assert counted_as == pytest.approx(histogram.quantile(1.0), rel=PRECISION)
