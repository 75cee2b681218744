"""The formula of expected tokens: its limits, its sum form, and its two forms of call."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.goodput import expected_tokens, expected_tokens_up_to

rates = st.floats(0.0, 1.0)
lengths = st.integers(0, 64)


@pytest.mark.parametrize(
    ("rate", "length", "tokens"),
    [(0.5, 0, 1.0), (0.5, 1, 1.5), (0.5, 2, 1.75), (0.0, 7, 1.0), (1.0, 7, 8.0), (0.9, 1, 1.9)],
)
def test_tokens_of_a_round_are_the_accepted_ones_and_one_more(
    rate: float, length: int, tokens: float
) -> None:
    assert tokens == pytest.approx(expected_tokens(rate, length), rel=1e-15)


@given(rates, lengths)
def test_expected_tokens_are_the_sum_of_the_chances_to_get_that_far(
    rate: float, length: int
) -> None:
    exact = sum((Fraction(rate) ** power for power in range(length + 1)), Fraction(0))
    assert float(exact) == pytest.approx(expected_tokens(rate, length), rel=1e-13)


def test_rates_next_to_one_keep_their_digits() -> None:
    rate = math.nextafter(1.0, 0.0)
    assert 65.0 == pytest.approx(expected_tokens(rate, 64), rel=1e-13)


@given(st.lists(st.tuples(rates, lengths), min_size=1, max_size=20))
def test_arrays_give_what_scalars_give(pairs: list[tuple[float, int]]) -> None:
    rate_array = np.array([rate for rate, _ in pairs])
    length_array = np.array([length for _, length in pairs])
    scalars = [expected_tokens(rate, length) for rate, length in pairs]
    assert scalars == pytest.approx(expected_tokens(rate_array, length_array).tolist(), rel=1e-13)


@given(rates, lengths)
def test_one_length_after_the_other_gives_the_same(rate: float, longest: int) -> None:
    each = [expected_tokens(rate, length) for length in range(1, longest + 1)]
    (together,) = expected_tokens_up_to(np.array([rate]), longest).tolist()
    assert each == pytest.approx(together, rel=1e-13)


@given(st.floats(0.0, 0.99), st.floats(0.0, 64.0), st.floats(0.0, 8.0))
def test_a_fraction_of_a_token_lies_between_its_neighbours(
    rate: float, length: float, more: float
) -> None:
    """A slow model draws a part of a token in the time of a round; without end: 1 / (1 - rate)."""
    without_end = expected_tokens(rate, math.inf)
    assert without_end == pytest.approx(1.0 / (1.0 - rate), rel=1e-13)
    less = expected_tokens(rate, length)
    assert less <= expected_tokens(rate, length + more) * (1 + 1e-13)
    assert less <= without_end * (1 + 1e-13)
    assert expected_tokens(rate, math.floor(length)) <= less * (1 + 1e-13)
