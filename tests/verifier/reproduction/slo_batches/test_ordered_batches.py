"""DiP-SD's plan against all plans of small instances, and one that is worked out by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from verifier.reproduction.slo_batches.ordered_batches import (
    CheckTime,
    OrderedPlan,
    Users,
    cut,
    cycle_seconds,
    ordered_plan,
)

CHECK = CheckTime(0.03, 0.002)


def drawn_users(num_users: int, seed: int) -> Users:
    random = np.random.default_rng(seed)
    return Users(
        random.uniform(0.4, 0.95, num_users),
        random.uniform(0.005, 0.05, num_users),
        random.uniform(0.0, 0.08, num_users),
    )


def partitions(members: list[int]) -> Iterator[list[list[int]]]:
    """All ways to put them into batches."""
    if not members:
        yield []
        return
    first, *rest = members
    for parts in partitions(rest):
        yield [[first], *parts]
        for i, part in enumerate(parts):
            yield [*parts[:i], [first, *part], *parts[i + 1 :]]


def span(users: Users, parts: list[list[int]], lengths: tuple[int, ...]) -> float:
    plan = OrderedPlan(tuple(map(tuple, parts)), lengths, 0.0)
    return cycle_seconds(users, CHECK, plan)


def tokens(users: Users, lengths: tuple[int, ...]) -> float:
    rates = users.acceptance_rates.tolist()
    return sum(
        sum(rate**i for i in range(length + 1)) for rate, length in zip(rates, lengths, strict=True)
    )


def test_an_instance_that_is_worked_out_by_hand() -> None:
    # Two users that draft a token in 10 ms and travel 20 ms; checks of 10 ms and 1 ms a token.
    # One token each, a batch each: 24 ms of checks, 10 + 20 + 12 ms for either batch: S = 42 ms.
    users = Users(np.array([0.5, 0.5]), np.full(2, 0.01), np.full(2, 0.02))
    check = CheckTime(0.01, 0.001)
    plan = OrderedPlan(((0,), (1,)), (1, 1), 0.0)
    assert cycle_seconds(users, check, plan) == pytest.approx(0.042)
    # Lengths 1: 3.0 tokens in 42 ms; 2: 3.5 in 53; so a token each is best.
    best = ordered_plan(users, check, 4)
    assert ({(0,), (1,)}, (1, 1)) == (set(best.batches), best.lengths)
    assert best.tokens_per_second == pytest.approx(3.0 / 0.042)


@pytest.mark.parametrize("seed", range(20))
def test_the_cut_is_exact_where_all_draft_equally_long(seed: int) -> None:
    users = drawn_users(6, seed)
    lengths = (3,) * 6
    for num_batches in (2, 3, 4):
        found = cut(users, CHECK, np.array(lengths), num_batches)
        assert sorted(itertools.chain(*found)) == list(range(6))
        assert (num_batches, True) == (len(found), all(found))
        best = min(
            span(users, parts, lengths)
            for parts in partitions(list(range(6)))
            if len(parts) == num_batches
        )
        assert span(users, [list(batch) for batch in found], lengths) == pytest.approx(best)


def test_plans_are_nearly_the_best_of_all() -> None:
    ratios = []
    for seed in range(30):
        users = drawn_users(4, seed)
        found = ordered_plan(users, CHECK, 4)
        best = max(
            tokens(users, lengths) / span(users, parts, lengths)
            for parts in partitions(list(range(4)))
            if len(parts) >= 2
            for lengths in itertools.product(range(1, 5), repeat=4)
        )
        own = tokens(users, found.lengths) / cycle_seconds(users, CHECK, found)
        assert found.tokens_per_second == pytest.approx(own)
        ratios.append(own / best)
    assert max(ratios) <= 1.0 + 1e-9
    assert (min(ratios) > 0.95, float(np.mean(ratios)) > 0.99) == (True, True), ratios


def test_one_user_is_a_batch() -> None:
    plan = ordered_plan(drawn_users(1, 1), CHECK, 4)
    assert ((0,),) == plan.batches
