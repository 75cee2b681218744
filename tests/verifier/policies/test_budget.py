"""The budget is the largest worthwhile one that slows nobody down by more than the limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.goodput import expected_tokens
from tests.support.ends.limits import make_budget_limits
from tests.support.ends.shares import Share, shares_of
from verifier.cost_curve.curve import CostCurve
from verifier.policies import (
    BudgetedPolicy,
    BudgetLimits,
    FixedPolicy,
    GoodspeedPolicy,
    GreedyPolicy,
    RandomPolicy,
)
from verifier.policies.budget import BudgetPlan, plan_budget, worthwhile_drafts


def share(rate: float = 0.8, goodput: float = 2.0, max_length: int = 16) -> Share:
    return Share(rate=rate, goodput=goodput, max_length=max_length)


def plan_of(
    streams: Sequence[Share],
    policy: BudgetedPolicy,
    curve: CostCurve,
    context_tokens: int,
    limits: BudgetLimits,
    num_other_tokens: int = 0,
) -> BudgetPlan:
    num_tokens = len(streams) + num_other_tokens
    most_drafts = max(limits.max_round_tokens - num_tokens, 0)
    seconds = curve.rounds_seconds(num_tokens + np.arange(most_drafts + 1), context_tokens)
    return plan_budget(shares_of(streams), policy.allocate, seconds, limits)


def linear_curve(fixed_seconds: float, token_seconds: float) -> CostCurve:
    return CostCurve.from_samples(
        [(count, 0, fixed_seconds + count * token_seconds) for count in (1, 1_000)]
    )


def limits(slowdown_limit: float = 0.05, max_round_tokens: int = 1_000) -> BudgetLimits:
    return make_budget_limits(max_round_tokens=max_round_tokens, slowdown_limit=slowdown_limit)


def slows_nobody(
    streams: Sequence[Share],
    lengths: Sequence[int],
    curve: CostCurve,
    slowdown_limit: float,
) -> bool:
    growth = curve.round_seconds(len(streams) + sum(lengths), 0) / curve.round_seconds(
        len(streams), 0
    )
    return all(
        growth <= (1.0 + slowdown_limit) * expected_tokens(stream.rate, length) + 1e-12
        for stream, length in zip(streams, lengths, strict=True)
    )


def worthwhile(streams: Sequence[Share], curve: CostCurve) -> int:
    max_lengths = np.array([stream.max_length for stream in streams], dtype=np.int64)
    counts = len(streams) + np.arange(max_lengths.sum() + 1)
    rates = np.array([stream.rate for stream in streams], dtype=np.float64)
    return worthwhile_drafts(
        rates, max_lengths, curve.rounds_seconds(counts, 0), np.ones(len(streams))
    )


fleets = st.lists(
    st.builds(
        share,
        rate=st.floats(0.05, 0.97),
        goodput=st.floats(0.5, 8.0),
        max_length=st.integers(0, 12),
    ),
    max_size=8,
)
curves = st.builds(linear_curve, st.floats(0.001, 0.1), st.floats(0.0, 0.02))
slowdown_limits = st.sampled_from([0.0, 0.05, 0.5])


def test_where_somebody_cannot_draft_the_round_may_grow_by_the_limit_alone() -> None:
    # 2 streams: 100 ms + 2 * 1 ms; 5 % more are 5.1 ms, 5 drafts.
    streams = [share(), share(max_length=0)]
    plan = plan_of(streams, GoodspeedPolicy(), linear_curve(0.1, 0.001), 0, limits())
    assert (5, (5, 0)) == (plan.budget_tokens, tuple(plan.draft_lengths.tolist()))


def test_where_everybody_gains_the_round_may_grow_with_the_gain() -> None:
    # mu = 1 + 0.8 + 0.64 = 2.44 for both at 4 drafts; the round grows by 4 of 12 ms.
    plan = plan_of([share()] * 2, GoodspeedPolicy(), linear_curve(0.01, 0.001), 0, limits())
    assert plan.budget_tokens > 4
    assert plan.draft_lengths[0] in (plan.draft_lengths[1], plan.draft_lengths[1] + 1)


def test_free_tokens_are_all_granted() -> None:
    plan = plan_of([share()] * 3, GoodspeedPolicy(), linear_curve(0.1, 0.0), 0, limits())
    assert (48, (16, 16, 16)) == (plan.budget_tokens, tuple(plan.draft_lengths.tolist()))


def test_the_engine_bounds_the_round_prefill_included() -> None:
    curve = linear_curve(0.1, 0.0)
    bounded = limits(max_round_tokens=20)
    plan = plan_of([share()] * 2, GreedyPolicy(), curve, 0, bounded, num_other_tokens=8)
    assert 10 == plan.budget_tokens
    crowded = plan_of([share()] * 2, GreedyPolicy(), curve, 0, bounded, num_other_tokens=30)
    assert (0, (0, 0)) == (crowded.budget_tokens, tuple(crowded.draft_lengths.tolist()))


def test_a_set_budget_is_taken_as_it_is() -> None:
    setting = make_budget_limits(max_round_tokens=30, budget_tokens=7)
    dear = linear_curve(0.001, 1.0)
    assert 7 == plan_of([share()], GoodspeedPolicy(), dear, 0, setting).budget_tokens
    many = [share()] * 28
    assert 2 == plan_of(many, GoodspeedPolicy(), dear, 0, setting).budget_tokens


def test_no_streams_need_no_budget() -> None:
    plan = plan_of([], GoodspeedPolicy(), linear_curve(0.1, 0.001), 0, limits())
    assert (0, ()) == (plan.budget_tokens, tuple(plan.draft_lengths.tolist()))


@given(fleets, curves, slowdown_limits)
def test_the_budget_is_the_largest_worthwhile_one_that_holds(
    streams: list[Share], curve: CostCurve, slowdown_limit: float
) -> None:
    policy = GoodspeedPolicy()
    plan = plan_of(streams, policy, curve, 0, limits(slowdown_limit))
    assert slows_nobody(streams, plan.draft_lengths.tolist(), curve, slowdown_limit)
    max_useful = worthwhile(streams, curve)
    assert plan.budget_tokens <= max_useful
    for budget_tokens in range(plan.budget_tokens + 1, max_useful + 1):
        lengths = policy.allocate(shares_of(streams), budget_tokens).tolist()
        # A hair stricter: at the very border either answer is right.
        assert not slows_nobody(streams, lengths, curve, slowdown_limit - 1e-9)


@given(fleets, curves, slowdown_limits, st.integers(0, 99))
def test_the_budget_holds_with_the_baselines_too(
    streams: list[Share], curve: CostCurve, slowdown_limit: float, seed: int
) -> None:
    for policy in (FixedPolicy(), RandomPolicy(np.random.default_rng(seed))):
        plan = plan_of(streams, policy, curve, 0, limits(slowdown_limit))
        assert sum(plan.draft_lengths) <= plan.budget_tokens
        assert slows_nobody(streams, plan.draft_lengths.tolist(), curve, slowdown_limit)


def test_a_curve_that_hugs_the_limit_ends_with_the_plain_rule() -> None:
    """Each length just fails where the next shorter would hold, down to none at all."""
    stream = share(rate=0.97, max_length=40)
    hugging = [(1, 0, 1.0)] + [
        (1 + length, 0, 1.05 * expected_tokens(0.97, length) + 1e-6) for length in range(1, 41)
    ]
    plan = plan_of([stream], GoodspeedPolicy(), CostCurve.from_samples(hugging), 0, limits())
    assert (0, (0,)) == (plan.budget_tokens, tuple(plan.draft_lengths.tolist()))


def test_longer_contexts_leave_room_for_more_drafts() -> None:
    curve = CostCurve.from_samples(
        [
            (count, context, 0.01 + 0.001 * count + 1e-6 * context)
            for count in (1, 100)
            for context in (0, 100_000)
        ]
    )
    streams = [share(), share(max_length=0)]
    budgets = [
        plan_of(streams, GoodspeedPolicy(), curve, context, limits()).budget_tokens
        for context in (0, 50_000, 100_000)
    ]
    assert [0, 3, 5] == budgets
    assert pytest.approx(0.112) == curve.round_seconds(2, 100_000)
