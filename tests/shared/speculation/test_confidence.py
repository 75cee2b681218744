"""A confidence says how sure a drafter was, never of which token."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.confidence import (
    LEAST_MODEL_CONFIDENCE,
    MAX_CONFIDENCE,
    MAX_NGRAM_CONFIDENCE,
    UNKNOWN_CONFIDENCE,
    confidence_of_ngram,
    confidence_of_odds,
    confidence_of_probability,
    confidence_of_row,
    probability_of,
)
from shared.speculation.logits_confidence import confidence_of_logits
from shared.speculation.quantised_row import quantise
from shared.speculation.sparse_row import SparseRow

probabilities_of_one = st.floats(0.02, 0.99999)


@given(st.floats(0.0, allow_nan=False))
def test_any_odds_make_a_byte_of_a_model(odds: float) -> None:
    assert LEAST_MODEL_CONFIDENCE <= confidence_of_odds(odds) <= MAX_CONFIDENCE


@given(probabilities_of_one, probabilities_of_one)
def test_the_surer_one_has_the_larger_byte(first: float, second: float) -> None:
    less, more = sorted((first, second))
    assert confidence_of_probability(less) <= confidence_of_probability(more)


@given(probabilities_of_one)
def test_a_byte_keeps_the_log_odds_to_a_thirtieth(largest: float) -> None:
    told = probability_of(confidence_of_probability(largest))
    log_odds = [math.log(p / (1.0 - p)) for p in (largest, told)]
    assert log_odds[0] == pytest.approx(log_odds[1], abs=0.5 / 15.0 + 1e-9)


@given(st.lists(st.floats(-30.0, 30.0, width=32), min_size=2, max_size=50))
def test_logits_say_how_likely_their_likeliest_token_is(logits: list[float]) -> None:
    row = np.array(logits, dtype=np.float32)
    odds = np.exp(row.astype(np.float64) - row.max())
    largest = 1.0 / odds.sum()
    assert abs(confidence_of_logits(row) - confidence_of_probability(largest)) <= 1


def test_the_order_of_logits_changes_nothing() -> None:
    row = np.array([3.0, 1.0, 0.0, -2.0], dtype=np.float32)
    assert confidence_of_logits(row) == confidence_of_logits(row[::-1].copy())


def test_logits_as_far_apart_as_numbers_go_are_as_sure_as_can_be() -> None:
    row = np.array([3e38, -3e38, -3e38], dtype=np.float32)
    assert MAX_CONFIDENCE == confidence_of_logits(row)


def test_a_row_says_what_the_probabilities_behind_it_say() -> None:
    probs = np.array([0.6, 0.3, 0.1])
    row = quantise(np.array([7, 8, 9]), probs, 3)
    assert abs(confidence_of_row(row) - confidence_of_probability(0.6)) <= 1


def test_a_row_of_one_token_was_looked_up() -> None:
    row = SparseRow(np.array([7], np.uint32), np.array([65_535], np.uint16))
    assert MAX_NGRAM_CONFIDENCE == confidence_of_row(row)


def test_ngrams_and_models_have_bytes_of_their_own() -> None:
    of_ngrams = [confidence_of_ngram(matched) for matched in range(1, 40)]
    assert sorted(of_ngrams) == of_ngrams
    assert [1, 2, 8] == [of_ngrams[0], of_ngrams[1], of_ngrams[7]]
    assert UNKNOWN_CONFIDENCE < min(of_ngrams)
    assert max(of_ngrams) < MAX_NGRAM_CONFIDENCE < LEAST_MODEL_CONFIDENCE
