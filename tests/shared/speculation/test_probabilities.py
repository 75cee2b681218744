"""Probabilities are what temperature, top-k and top-p say, ties and extremes included."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from shared.speculation.probabilities import NotADistribution, dense_probabilities, probabilities
from shared.speculation.sampling import GREEDY, LOWEST_TEMPERATURE, SamplingParameters

LOG_8_4_2_1 = np.log(np.array([1.0, 8.0, 2.0, 4.0]))  # of 15

many_logits = arrays(np.float64, st.integers(1, 40), elements=st.floats(-30, 30))
# Few different values, so that ties are everywhere.
tied_logits = arrays(np.float64, st.integers(1, 40), elements=st.integers(-3, 3).map(float))
logit_arrays = many_logits | tied_logits
sampled = st.builds(
    SamplingParameters,
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 45),
    top_p=st.floats(0.01, 1),
)


def softmax(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    weights = np.exp((logits - logits.max()) / temperature)
    return np.asarray(weights / weights.sum())


def test_temperature_1_is_the_softmax() -> None:
    token_ids, probs = probabilities(LOG_8_4_2_1, SamplingParameters())
    assert [1, 3, 2, 0] == token_ids.tolist()
    assert [8 / 15, 4 / 15, 2 / 15, 1 / 15] == pytest.approx(probs.tolist())


def test_temperature_divides_the_logits() -> None:
    _, probs = probabilities(LOG_8_4_2_1, SamplingParameters(temperature=0.5))
    assert [64 / 85, 16 / 85, 4 / 85, 1 / 85] == pytest.approx(probs.tolist())


def test_temperature_0_is_greedy() -> None:
    assert GREEDY.is_greedy
    assert not SamplingParameters(temperature=0.1).is_greedy
    token_ids, probs = probabilities(LOG_8_4_2_1, GREEDY)
    assert ([1], [1.0]) == (token_ids.tolist(), probs.tolist())


def test_greedy_takes_the_smaller_id_of_a_tie() -> None:
    token_ids, _ = probabilities(np.array([0.0, 2.0, 1.0, 2.0]), GREEDY)
    assert [1] == token_ids.tolist()


def test_top_k_keeps_the_most_likely() -> None:
    token_ids, probs = probabilities(LOG_8_4_2_1, SamplingParameters(top_k=2))
    assert [1, 3] == token_ids.tolist()
    assert [2 / 3, 1 / 3] == pytest.approx(probs.tolist())


def test_top_k_gives_the_last_place_of_a_tie_to_the_smaller_id() -> None:
    token_ids, _ = probabilities(np.array([1.0, 0.0, 1.0, 3.0, 1.0]), SamplingParameters(top_k=3))
    assert [3, 0, 2] == token_ids.tolist()


@pytest.mark.parametrize("top_k", [0, 4, 5, 1 << 24])
def test_top_k_of_nothing_or_of_everything_keeps_all(top_k: int) -> None:
    token_ids, _ = probabilities(LOG_8_4_2_1, SamplingParameters(top_k=top_k))
    assert [1, 3, 2, 0] == token_ids.tolist()


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.01, [1]),
        (0.53, [1]),
        (0.54, [1, 3]),
        (0.79, [1, 3]),
        (0.81, [1, 3, 2]),
        (0.99, [1, 3, 2, 0]),
    ],
)
def test_top_p_keeps_the_smallest_prefix_that_reaches_the_mass(
    top_p: float, kept: list[int]
) -> None:
    token_ids, _ = probabilities(LOG_8_4_2_1, SamplingParameters(top_p=top_p))
    assert kept == token_ids.tolist()


def test_top_p_that_is_reached_exactly_keeps_no_more() -> None:
    token_ids, probs = probabilities(np.zeros(4), SamplingParameters(top_p=0.5))
    assert ([0, 1], [0.5, 0.5]) == (token_ids.tolist(), probs.tolist())


def test_top_p_counts_the_mass_after_top_k() -> None:
    # Of the two survivors of top-k the first has 2/3, so 0.6 is reached by it alone.
    token_ids, _ = probabilities(LOG_8_4_2_1, SamplingParameters(top_k=2, top_p=0.6))
    assert [1] == token_ids.tolist()


def test_a_small_temperature_leaves_the_ties_of_the_largest() -> None:
    logits = np.array([3.0, -1e3, 5.0, 5.0])
    for temperature in (1e-3, LOWEST_TEMPERATURE):
        token_ids, probs = probabilities(logits, SamplingParameters(temperature=temperature))
        assert ([2, 3], [0.5, 0.5]) == (token_ids.tolist(), probs.tolist())


@pytest.mark.parametrize(
    "temperature", [math.nextafter(LOWEST_TEMPERATURE, 0), 2.9e-39, 1e-200, 5e-324, 0.0, -0.0]
)
def test_a_temperature_below_the_lowest_is_greedy(temperature: float) -> None:
    sampling = SamplingParameters(temperature=temperature)
    assert sampling.is_greedy
    token_ids, probs = probabilities(np.array([3.0, -1e3, 5.0, 5.0]), sampling)
    assert ([2], [1.0]) == (token_ids.tolist(), probs.tolist())


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParameters(), SamplingParameters(1, 2, 0.5)])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_logits_without_a_finite_largest_one_are_no_distribution(
    broken: float, sampling: SamplingParameters
) -> None:
    logits = np.full(9, -math.inf)
    logits[4] = broken
    if math.isnan(broken):
        logits[2] = 1.0  # one NaN is enough
    with pytest.raises(NotADistribution):
        probabilities(logits, sampling)


@pytest.mark.parametrize("sampling", [SamplingParameters(100), SamplingParameters(1e-5, 3, 0.9)])
def test_the_hugest_logits_are_a_distribution(sampling: SamplingParameters) -> None:
    largest = np.finfo(np.float32).max
    logits = np.array([largest, -largest, largest, -math.inf], dtype=np.float32)
    token_ids, probs = probabilities(logits, sampling)
    assert ([0, 2], [0.5, 0.5]) == (token_ids.tolist(), probs.tolist())


@pytest.mark.parametrize("num_tied", [3, 7, 10, 1000, 49_152])
def test_top_p_of_ties_keeps_as_many_as_reach_it_exactly(num_tied: int) -> None:
    for num_kept in {1, num_tied // 3, num_tied // 2, num_tied - 1}:
        sampling = SamplingParameters(top_p=num_kept / num_tied)
        token_ids, _ = probabilities(np.zeros(num_tied), sampling)
        assert list(range(num_kept)) == token_ids.tolist()


def test_masked_and_underflowing_tokens_do_not_survive() -> None:
    logits = np.array([0.0, -math.inf, -2000.0, -1.0])
    token_ids, probs = probabilities(logits, SamplingParameters())
    assert [0, 3] == token_ids.tolist()
    assert (probs > 0).all()


def test_a_mass_that_rounding_keeps_out_of_reach_brings_no_impossible_tokens() -> None:
    logits = np.array([0.0] * 7 + [-math.inf])  # seven sevenths add up to less than 1
    token_ids, _ = probabilities(logits, SamplingParameters(top_p=math.nextafter(1, 0)))
    assert list(range(7)) == token_ids.tolist()


def test_float32_logits_give_float64_probabilities() -> None:
    _, probs = probabilities(LOG_8_4_2_1.astype(np.float32), SamplingParameters())
    assert np.float64 == probs.dtype
    assert 1.0 == pytest.approx(probs.sum(), abs=1e-15)


def test_dense_probabilities_are_zero_elsewhere() -> None:
    dense = dense_probabilities(LOG_8_4_2_1, SamplingParameters(top_k=2))
    assert [0, 2 / 3, 0, 1 / 3] == pytest.approx(dense.tolist())


@given(logit_arrays, sampled)
def test_survivors_are_a_distribution_over_unique_ids_most_likely_first(
    logits: NDArray[np.float64], sampling: SamplingParameters
) -> None:
    token_ids, probs = probabilities(logits, sampling)
    assert 1.0 == pytest.approx(probs.sum(), abs=1e-12)
    assert (probs > 0).all()
    assert (np.diff(probs) <= 0).all()
    assert len(set(token_ids.tolist())) == len(token_ids) <= (sampling.top_k or len(logits))
    pairs = [(-logits[token_id], token_id) for token_id in token_ids.tolist()]
    assert sorted(pairs) == pairs


@given(logit_arrays, sampled)
def test_survivors_are_more_likely_than_all_others_and_keep_their_ratios(
    logits: NDArray[np.float64], sampling: SamplingParameters
) -> None:
    token_ids, probs = probabilities(logits, sampling)
    full = softmax(logits, sampling.temperature)
    others = np.delete(logits, token_ids)
    assert others.max(initial=-math.inf) <= logits[token_ids].min()
    assert np.allclose(full[token_ids] / full[token_ids].sum(), probs, rtol=1e-9, atol=0)


@given(logit_arrays, st.floats(0.05, 5), st.floats(0.01, 0.999))
def test_the_nucleus_reaches_its_mass_and_is_minimal(
    logits: NDArray[np.float64], temperature: float, top_p: float
) -> None:
    sampling = SamplingParameters(temperature=temperature, top_p=top_p)
    token_ids, _ = probabilities(logits, sampling)
    full = softmax(logits, temperature)[token_ids]
    assert full.sum() >= top_p - 1e-12
    assert full[:-1].sum() < top_p + 1e-12


@given(logit_arrays, sampled)
def test_greedy_is_the_first_survivor_of_every_sampling(
    logits: NDArray[np.float64], sampling: SamplingParameters
) -> None:
    survivors, _ = probabilities(logits, sampling)
    greedy, probs = probabilities(logits, msgspec.structs.replace(sampling, temperature=0.0))
    assert ([survivors[0]], [1.0]) == (greedy.tolist(), probs.tolist())


@given(logit_arrays, sampled)
def test_dense_and_sparse_say_the_same(
    logits: NDArray[np.float64], sampling: SamplingParameters
) -> None:
    token_ids, probs = probabilities(logits, sampling)
    dense = dense_probabilities(logits, sampling)
    assert probs.tolist() == dense[token_ids].tolist()
    assert len(token_ids) == np.count_nonzero(dense)
