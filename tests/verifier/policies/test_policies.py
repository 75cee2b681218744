"""Every policy keeps the budget and the caps; GoodSpeed's solver is exact."""

from __future__ import annotations

import heapq
import math
from typing import cast, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.speculation.goodput import expected_tokens
from tests.support.ends.shares import Share, shares_of
from verifier.policies import (
    BudgetedPolicy,
    DraftPolicy,
    FixedPolicy,
    GoodspeedPolicy,
    GreedyPolicy,
    PolicyName,
    RandomPolicy,
    policy_named,
)
from verifier.policies.goodspeed import allocate_arrays

# `rate` and `awc` have no budget to split: test_rate.py and test_awc_policy.py beside this file.
NAMES: tuple[PolicyName, ...] = tuple(set(get_args(PolicyName)) - {"rate", "awc"})


def share(
    rate: float = 0.7, goodput: float = 2.0, weight: float = 1.0, max_length: int = 16
) -> Share:
    return Share(rate=rate, goodput=goodput, weight=weight, max_length=max_length)


def allocate(policy: DraftPolicy, streams: list[Share], budget_tokens: int) -> list[int]:
    assert isinstance(policy, BudgetedPolicy)
    lengths: list[int] = policy.allocate(shares_of(streams), budget_tokens).tolist()
    return lengths


# Few distinct values beside the continuous ones: ties between streams must come up.
shares = st.builds(
    share,
    rate=st.one_of(st.sampled_from([0.01, 0.5, 0.99]), st.floats(0.01, 0.99)),
    goodput=st.one_of(st.sampled_from([1.0, 2.0]), st.floats(0.01, 20.0)),
    weight=st.sampled_from([0.5, 1.0, 4.0]),
    max_length=st.integers(0, 20),
)
fleets = st.lists(shares, max_size=12)
budgets = st.integers(-1, 300)


def heap_allocation(streams: list[Share], budget_tokens: int) -> list[int]:
    """The paper's own way: the best slot of all, one after the other, the first stream at ties."""
    lengths = [0] * len(streams)
    log_rates = [float(np.log(stream.rate)) for stream in streams]
    log_priorities = [float(np.log(stream.weight / stream.goodput)) for stream in streams]
    heap = [
        (-(log_priorities[index] + log_rates[index]), index)
        for index, stream in enumerate(streams)
        if stream.max_length
    ]
    heapq.heapify(heap)
    for _ in range(budget_tokens):
        if not heap:
            break
        _, index = heapq.heappop(heap)
        lengths[index] += 1
        if lengths[index] < streams[index].max_length:
            gain = log_priorities[index] + (lengths[index] + 1) * log_rates[index]
            heapq.heappush(heap, (-gain, index))
    return lengths


def objective(streams: list[Share], lengths: list[int]) -> float:
    return math.fsum(
        stream.weight / stream.goodput * expected_tokens(stream.rate, length)
        for stream, length in zip(streams, lengths, strict=True)
    )


@given(st.sampled_from(NAMES), fleets, budgets, st.integers(0, 2**32))
def test_every_policy_keeps_the_budget_and_each_cap(
    name: PolicyName, streams: list[Share], budget_tokens: int, seed: int
) -> None:
    lengths = allocate(policy_named(name, seed=seed), streams, budget_tokens)
    assert len(streams) == len(lengths)
    assert sum(lengths) <= max(budget_tokens, 0)
    for stream, length in zip(streams, lengths, strict=True):
        assert isinstance(length, int)
        assert 0 <= length <= stream.max_length
    assert lengths == allocate(policy_named(name, seed=seed), streams, budget_tokens)


@settings(max_examples=500)
@given(fleets, budgets)
def test_goodspeed_gives_each_stream_what_the_heap_gives(
    streams: list[Share], budget_tokens: int
) -> None:
    expected = heap_allocation(streams, budget_tokens)
    assert expected == allocate(GoodspeedPolicy(), streams, budget_tokens)


@given(st.lists(shares, min_size=1, max_size=3), st.integers(0, 12))
def test_no_other_split_has_a_higher_objective(streams: list[Share], budget_tokens: int) -> None:
    best = max(
        objective(streams, list(lengths))
        for lengths in np.ndindex(*(stream.max_length + 1 for stream in streams))
        if sum(lengths) <= budget_tokens
    )
    allocated = objective(streams, allocate(GoodspeedPolicy(), streams, budget_tokens))
    assert best == pytest.approx(allocated, rel=1e-12)


@given(fleets, st.integers(0, 100))
def test_a_larger_budget_only_adds_tokens(streams: list[Share], budget_tokens: int) -> None:
    policy = GoodspeedPolicy()
    smaller = allocate(policy, streams, budget_tokens)
    larger = allocate(policy, streams, budget_tokens + 1)
    assert all(before <= after for before, after in zip(smaller, larger, strict=True))
    spendable = sum(stream.max_length for stream in streams)
    assert min(budget_tokens, spendable) == sum(smaller)


@pytest.mark.parametrize("num_streams", [100, 1_000])
def test_goodspeed_equals_the_heap_on_large_fleets(num_streams: int) -> None:
    generator = np.random.default_rng(num_streams)
    for num_levels in (3, 10**6):  # with and without many equal streams
        levels = generator.integers(1, num_levels + 1, (2, num_streams)) / num_levels
        streams = [
            share(rate=0.05 + 0.9 * first, goodput=1.0 + 5.0 * second, max_length=index % 24)
            for index, (first, second) in enumerate(levels.T.tolist())
        ]
        for budget_tokens in (1, num_streams // 2, num_streams * 4, num_streams * 9):
            expected = heap_allocation(streams, budget_tokens)
            assert expected == allocate(GoodspeedPolicy(), streams, budget_tokens)


def test_equal_gains_go_to_the_stream_listed_first() -> None:
    assert [2, 2, 1, 1] == allocate(GoodspeedPolicy(), [share()] * 4, 6)


def test_a_stream_that_got_little_comes_before_one_that_got_much() -> None:
    poor, rich = share(goodput=1.0), share(goodput=6.0)
    lengths = allocate(GoodspeedPolicy(), [rich, poor], 7)
    assert [1, 6] == lengths


def test_weight_counts_like_its_inverse_in_goodput() -> None:
    heavy = allocate(GoodspeedPolicy(), [share(weight=3.0, goodput=3.0), share(goodput=1.0)], 7)
    assert [4, 3] == heavy


def test_greedy_looks_at_acceptance_alone() -> None:
    streams = [share(rate=0.3, goodput=0.1, weight=9.0), share(rate=0.9, goodput=9.0)]
    assert [0, 8] == allocate(GreedyPolicy(), streams, 8)
    assert [1, 12] == allocate(GreedyPolicy(), streams, 13)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30), st.integers(0, 400))
def test_the_solver_survives_rates_and_priorities_at_their_ends(
    rates: list[float], budget_tokens: int
) -> None:
    num_streams = len(rates)
    max_lengths = np.full(num_streams, 12)
    lengths = allocate_arrays(
        np.array(rates), np.zeros(num_streams), np.zeros(num_streams), max_lengths, budget_tokens
    )
    assert min(budget_tokens, 12 * num_streams) == lengths.sum()
    assert lengths.min() >= 0
    assert lengths.max() <= 12


def test_the_solver_ends_when_no_threshold_separates_the_slots() -> None:
    """A certain stream gains the same in every slot: next to a hopeless one they look equal."""
    lengths = allocate_arrays(
        np.array([1.0, 0.0]), np.ones(2), np.ones(2), np.full(2, 64), budget_tokens=30
    )
    assert [30, 0] == lengths.tolist()


def test_the_solver_leaves_its_arguments_alone() -> None:
    max_lengths = np.array([2, 3])
    lengths = allocate_arrays(np.full(2, 0.5), np.ones(2), np.ones(2), max_lengths, 10)
    lengths[0] = 99
    assert [2, 3] == max_lengths.tolist()


def test_fixed_splits_evenly_and_gives_the_rest_to_the_first() -> None:
    assert [3, 3, 2, 2] == allocate(FixedPolicy(), [share()] * 4, 10)
    assert [1, 0, 0] == allocate(FixedPolicy(), [share()] * 3, 1)
    assert [5, 1] == allocate(FixedPolicy(), [share(), share(max_length=1)], 10)


def test_a_given_fixed_length_is_cut_only_by_the_budget() -> None:
    assert [4, 4] == allocate(FixedPolicy(4), [share()] * 2, 100)
    assert [3, 2] == allocate(FixedPolicy(4), [share()] * 2, 5)


def test_random_draws_every_split_of_the_budget_equally_often() -> None:
    policy = RandomPolicy(np.random.default_rng(7))
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(6_000):
        lengths = tuple(allocate(policy, [share()] * 2, 2))
        counts[lengths] = counts.get(lengths, 0) + 1
    assert {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)} == set(counts)
    # Chi-square with 5 degrees of freedom: 20.5 is passed once in 1,000 seeds.
    assert sum((count - 1_000) ** 2 / 1_000 for count in counts.values()) < 20.5


def test_policies_are_found_by_name() -> None:
    assert isinstance(policy_named("goodspeed"), GoodspeedPolicy)
    assert isinstance(policy_named("greedy"), GreedyPolicy)
    assert isinstance(policy_named("random", seed=1), RandomPolicy)
    assert [2] == allocate(policy_named("fixed", fixed_length=2), [share()], 9)


def test_an_unknown_policy_name_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="unreachable"):
        policy_named(cast("PolicyName", "best"))
