"""AWC's network, its smoothing, and the way into fused mode and out of it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from verifier.policies import MEMORY_LENGTH, OpenStreams, policy_named
from verifier.policies.awc import (
    AwcInputs,
    AwcMemory,
    AwcWeights,
    network_windows,
    next_memory,
    silu,
)
from verifier.policies.threshold import ThresholdPolicy, threshold_windows


def constant(window: float, width: int = 4) -> AwcWeights:
    """A network that says this whatever it sees."""
    zeros = np.zeros((width, width))
    block = (zeros, np.zeros(width), zeros, np.zeros(width))
    return AwcWeights(
        np.zeros((5, width)), np.zeros(width), (block, block), np.zeros(width), window
    )


def random_weights(width: int = 16) -> AwcWeights:
    random = np.random.default_rng(1)

    def block() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return (
            random.normal(size=(width, width)),
            random.normal(size=width),
            random.normal(size=(width, width)),
            random.normal(size=width),
        )

    return AwcWeights(
        random.normal(size=(5, width)),
        random.normal(size=width),
        (block(), block()),
        random.normal(size=width),
        0.5,
    )


def inputs(count: int) -> AwcInputs:
    random = np.random.default_rng(2)
    return AwcInputs(*random.random((8, count)))


def windows_over(raws: list[float]) -> list[int]:
    memory, windows = AwcMemory.of_new(1), []
    for raw in raws:
        memory = next_memory(constant(raw), memory, inputs(1))
        windows += memory.windows().tolist()
    return windows


def test_a_row_is_what_the_formula_says() -> None:
    weights, row = random_weights(), inputs(1).scaled()[0]
    hidden = [float(row[:5] @ weights.into[:, i] + weights.into_bias[i]) for i in range(16)]
    for first, first_bias, second, second_bias in weights.blocks:
        inner = silu(np.array(hidden) @ first + first_bias)
        hidden = [h + float(inner @ second[:, i] + second_bias[i]) for i, h in enumerate(hidden)]
    expected = sum(h * w for h, w in zip(hidden, weights.out, strict=True)) + 0.5
    assert expected == pytest.approx(float(network_windows(weights, row[None])[0]))


def test_outputs_are_clamped_and_smoothed() -> None:
    # 0.4 · 12 + 0.6 · 4 = 7.2; 0.4 · 12 + 0.6 · 7.2 = 9.12
    assert [7, 9] == windows_over([100.0, 100.0])
    assert [3] == windows_over([1.0])


def test_two_verdicts_at_one_make_fused_and_two_above_it_unmake_it() -> None:
    low = windows_over([-5.0] * 8)
    assert 0 == low[-1]
    assert [1, 0] == low[low.index(1) :][:2]
    assert low == sorted(low, reverse=True)
    there_and_back = windows_over([-5.0] * 8 + [12.0] * 2)
    assert [0, 8] == there_and_back[-2:]


def test_a_single_high_output_does_not_leave_fused_mode() -> None:
    assert 0 == windows_over([-5.0] * 8 + [2.5, -5.0, 1.0])[-1]


def test_streams_do_not_touch_each_other() -> None:
    memory, one = AwcMemory.of_new(3), np.array([1])
    memory.put(one, next_memory(constant(12.0), memory.of(one), inputs(1)))
    assert [4.0, 7.2, 4.0] == pytest.approx(memory.smoothed.tolist())


def test_a_stream_takes_less_than_twenty_microseconds_in_a_batch() -> None:
    weights, memory, seen = random_weights(), AwcMemory.of_new(512), inputs(512)
    begun = time.process_time()
    for _ in range(5):
        memory = next_memory(weights, memory, seen)
    assert (time.process_time() - begun) / (5 * 512) < 20e-6


def test_thresholds_are_those_of_the_authors() -> None:
    assert [2, 2, 4, 8, 8] == threshold_windows(np.array([0.1, 0.25, 0.5, 0.6, 0.9])).tolist()


@pytest.mark.parametrize(("budget", "expected"), [(100, [2, 3, 8]), (4, [2, 2, 0]), (0, [0, 0, 0])])
def test_a_budget_is_spent_in_the_streams_order(budget: int, expected: list[int]) -> None:
    ones = np.ones(3)
    streams = OpenStreams(
        acceptance_rates=np.array([0.1, 0.5, 0.9]),
        num_observed=ones,
        goodputs=ones,
        steady_goodputs=ones,
        weights=ones,
        num_siblings=np.ones(3, dtype=np.int64),
        max_lengths=np.array([16, 3, 16]),
        draft_token_seconds=ones,
        waits=np.zeros(3, dtype=np.bool_),
        round_trip_seconds=np.zeros(3),
        memories=np.zeros((3, MEMORY_LENGTH)),
        best_chances=np.zeros(3),
    )
    policy = policy_named("threshold")
    assert isinstance(policy, ThresholdPolicy)
    assert expected == policy.allocate(streams, budget).tolist()
