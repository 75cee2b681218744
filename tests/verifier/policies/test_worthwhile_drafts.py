"""A round holds as many drafts as make all of its streams together fastest, and no more."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.goodput import expected_tokens
from verifier.policies.budget import worthwhile_drafts


def seconds(fixed: float, of_token: float, num_streams: int, num_drafts: int) -> np.ndarray:
    return fixed + of_token * (num_streams + np.arange(num_drafts + 1.0))


def fairness(rates: list[float], lengths: tuple[int, ...], round_seconds: np.ndarray) -> float:
    speeds = [
        expected_tokens(rate, length) / round_seconds[sum(lengths)]
        for rate, length in zip(rates, lengths, strict=True)
    ]
    return float(np.log(speeds).sum())


@given(
    st.lists(st.tuples(st.floats(0.05, 0.99), st.integers(0, 4)), min_size=1, max_size=4),
    st.floats(0.001, 1.0),
    st.floats(0.0, 0.2),
)
def test_no_other_lengths_make_the_fleet_faster(
    streams: list[tuple[float, int]], fixed: float, of_token: float
) -> None:
    rates, max_lengths = map(list, zip(*streams, strict=True))
    round_seconds = seconds(fixed, of_token, len(streams), sum(max_lengths))
    chosen = worthwhile_drafts(
        np.array(rates), np.array(max_lengths), round_seconds, np.ones(len(rates))
    )
    choices = product(*(range(length + 1) for length in max_lengths))
    by_count: dict[int, float] = {}
    for lengths in choices:
        value = fairness(rates, lengths, round_seconds)
        by_count[sum(lengths)] = max(value, by_count.get(sum(lengths), -np.inf))
    assert by_count[chosen] == pytest.approx(max(by_count.values()), abs=1e-9)


def test_many_streams_take_less_each_than_one_alone() -> None:
    """Rounds of an H200 with an 8B model: 4.8 ms, and 16 microseconds for every token."""
    lengths = {}
    for num_streams in (1, 8, 64):
        drafts = worthwhile_drafts(
            np.full(num_streams, 0.8),
            np.full(num_streams, 16),
            seconds(0.0048, 16e-6, num_streams, 16 * num_streams),
            np.ones(num_streams),
        )
        lengths[num_streams] = drafts / num_streams
    assert lengths[1] == 16 > lengths[8] > lengths[64]
    assert 3 < lengths[64] < 5


def test_a_round_that_has_no_room_ends_the_search() -> None:
    assert 2 == worthwhile_drafts(np.array([0.9]), np.array([9]), np.ones(3), np.ones(1))


@pytest.mark.parametrize("max_length", [0, 3])
def test_drafts_that_never_survive_are_worth_nothing(max_length: int) -> None:
    rates, lengths = np.zeros(2), np.full(2, max_length)
    of_round = seconds(1.0, 0.1, 2, 2 * max_length)
    assert 0 == worthwhile_drafts(rates, lengths, of_round, np.ones(2))


def test_a_device_counts_once_however_many_streams_it_has() -> None:
    """Eight streams of one device that could draft do not outvote seven devices that cannot."""
    rates, max_lengths = np.full(15, 0.5), np.array([4] * 8 + [0] * 7)
    round_seconds = seconds(1.0, 0.05, 15, 32)
    equal = worthwhile_drafts(rates, max_lengths, round_seconds, np.ones(15))
    by_device = np.array([1 / 8] * 8 + [1.0] * 7)
    assert (8, 0) == (equal, worthwhile_drafts(rates, max_lengths, round_seconds, by_device))


def test_a_round_grows_for_the_devices_that_weigh_most() -> None:
    rates, max_lengths = np.full(4, 0.6), np.array([4, 0, 0, 0])
    round_seconds = seconds(1.0, 0.1, 4, 4)
    light = worthwhile_drafts(rates, max_lengths, round_seconds, np.ones(4))
    heavy = worthwhile_drafts(rates, max_lengths, round_seconds, np.array([9.0, 1.0, 1.0, 1.0]))
    assert light < heavy
