"""Barrier rounds are those of the real policies, and their optimum is the optimum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from shared.speculation.goodput import FloatArray, IntArray, expected_tokens
from verifier.policies import MEMORY_LENGTH, FixedPolicy, OpenStreams
from verifier.policies.goodspeed import allocate_arrays
from verifier.reproduction.goodspeed_rounds.optimum import optimal_goodputs
from verifier.reproduction.goodspeed_rounds.rounds import (
    RoundSettings,
    fixed_lengths,
    goodspeed_lengths,
    play_rounds,
    random_lengths,
)


def best_mixture(rates: FloatArray, budget: int, num_steps: int = 4000) -> FloatArray:
    """Frank-Wolfe over all splits of the budget: knows nothing of multipliers."""
    splits = np.array(
        [s for s in itertools.product(range(budget + 1), repeat=len(rates)) if sum(s) <= budget]
    )
    means = np.array([expected_tokens(rates, split) for split in splits])
    found = means.mean(axis=0)
    for step in range(num_steps):
        best = means[(means / found).sum(axis=1).argmax()]
        found = found + 2.0 / (step + 2.0) * (best - found)
    return found


def test_lengths_are_those_of_the_product() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        shape = (3, int(random.integers(2, 9)))
        rates, goodputs = random.uniform(0.2, 0.98, shape), random.uniform(1.0, 6.0, shape)
        budget = int(random.integers(1, 30))
        lengths = goodspeed_lengths(rates, goodputs, budget)
        limits: IntArray = np.full(shape[1], budget)
        for row in range(3):
            expected = allocate_arrays(rates[row], goodputs[row], np.ones(shape[1]), limits, budget)
            assert expected.tolist() == lengths[row].tolist()


def test_fixed_lengths_are_those_of_the_product() -> None:
    ones = np.ones(4)
    streams = OpenStreams(
        acceptance_rates=0.5 * ones,
        num_observed=ones,
        goodputs=ones,
        steady_goodputs=ones,
        weights=ones,
        num_siblings=np.ones(4, dtype=np.int64),
        max_lengths=np.full(4, 100),
        draft_token_seconds=ones,
        waits=np.zeros(4, dtype=np.bool_),
        round_trip_seconds=np.zeros(4),
        memories=np.zeros((4, MEMORY_LENGTH)),
        best_chances=np.zeros(4),
    )
    for budget in (0, 3, 24, 27):
        expected = FixedPolicy().allocate(streams, budget).tolist()
        assert [expected, expected] == fixed_lengths((2, 4), budget).tolist()


def test_random_lengths_are_evenly_spread_over_all_splits() -> None:
    lengths = random_lengths((30_000, 2), 3, np.random.default_rng(2))
    splits, counts = np.unique(lengths, axis=0, return_counts=True)
    assert 10 == len(splits)
    assert lengths.sum(axis=1).max() == 3
    chi_square = float(((counts - 3000.0) ** 2 / 3000.0).sum())
    assert chi_square < 27.9  # 99.9 % of 9 degrees of freedom


def test_the_optimum_is_that_of_all_mixtures() -> None:
    random = np.random.default_rng(3)
    for num_clients, budget in ((2, 5), (3, 6)):
        rates = random.uniform(0.4, 0.97, num_clients)
        optimum = optimal_goodputs(rates, budget)
        utility = float(np.log(optimum).sum())
        assert utility == pytest.approx(float(np.log(best_mixture(rates, budget)).sum()), abs=5e-4)


def test_known_acceptance_comes_near_the_optimum() -> None:
    rates = np.random.default_rng(4).uniform(0.4, 0.97, (3, 4))
    settings = RoundSettings(
        scheduler="goodspeed", budget_tokens=24, num_rounds=1500, acceptance_smoothing=None
    )
    played = play_rounds(rates, settings, np.random.default_rng(5))
    for row in range(3):
        optimum = optimal_goodputs(rates[row], 24)
        ratio = np.exp(np.log(played.expected_goodputs[row] / optimum).mean())
        assert 0.995 < ratio < 1.001


@pytest.mark.parametrize("smoothing", [None, 0.1], ids=["known", "estimated"])
def test_sampled_goodput_is_the_expected_one_in_the_mean(smoothing: float | None) -> None:
    rates = np.full((20, 4), 0.8)
    settings = RoundSettings(
        scheduler="fixed", budget_tokens=16, num_rounds=400, acceptance_smoothing=smoothing
    )
    played = play_rounds(rates, settings, np.random.default_rng(6))
    expected = expected_tokens(0.8, 4.0)
    assert expected == pytest.approx(float(played.expected_goodputs.mean()))
    assert expected == pytest.approx(float(played.sampled_goodputs.mean()), rel=0.02)
    assert 4.0 == played.longest_draft.mean()
