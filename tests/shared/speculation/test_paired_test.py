"""Pairs prove which of two ways is faster, and seldom what is not so."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.paired_test import LEAST_PAIRS, MOST_PAIRS, Finding, PairedTest

log_ratios = st.lists(st.floats(-2.0, 2.0), max_size=2 * MOST_PAIRS)


def pairs_of(*ratios: float) -> PairedTest:
    test = PairedTest()
    for ratio in ratios:
        test.add(ratio)
    return test


def first_finding(ratios: Iterable[float], least_pairs: int = LEAST_PAIRS) -> Finding:
    """What a test finds first, looked at after every pair until no more of them count."""
    test = PairedTest(least_pairs)
    for ratio in ratios:
        test.add(ratio)
        if test.finding is not Finding.NOTHING:
            break
    return test.finding


def findings(mean: float, deviation: float, num_tests: int = 500) -> Counter[Finding]:
    random = Random(f"{mean} {deviation}")
    tests = ([random.gauss(mean, deviation) for _ in range(MOST_PAIRS)] for _ in range(num_tests))
    return Counter(map(first_finding, tests))


def test_nothing_is_proven_by_nothing_or_by_one_pair() -> None:
    assert (Finding.NOTHING, 0.0, math.inf) == (
        pairs_of().finding,
        pairs_of().mean,
        pairs_of().margin,
    )
    assert Finding.NOTHING is pairs_of(-1.9).finding


def test_two_pairs_prove_a_large_difference_and_many_a_small_one() -> None:
    assert Finding.SLOWER is pairs_of(-0.5, -0.4).finding
    assert Finding.FASTER is pairs_of(0.5, 0.4).finding
    assert Finding.NOTHING is pairs_of(0.06, 0.04).finding
    assert Finding.FASTER is pairs_of(*[0.06, 0.04] * 6).finding


def test_one_pair_proves_a_very_large_difference_where_one_is_enough() -> None:
    for ratio, finding in ((0.7, Finding.FASTER), (-0.7, Finding.SLOWER), (0.6, Finding.NOTHING)):
        test = PairedTest(least_pairs=1)
        test.add(ratio)
        assert finding is test.finding


def test_pairs_that_contradict_each_other_prove_nothing() -> None:
    assert Finding.NOTHING is pairs_of(*[0.5, -0.4] * 10).finding


def test_old_pairs_are_forgotten() -> None:
    test = pairs_of(*[0.3] * MOST_PAIRS, *[-0.3] * MOST_PAIRS)
    assert (MOST_PAIRS, Finding.SLOWER) == (len(test), test.finding)
    assert pytest.approx(-0.3) == test.mean


@given(log_ratios)
def test_the_other_way_round_the_other_way_is_proven(ratios: list[float]) -> None:
    opposite = {Finding.FASTER: Finding.SLOWER, Finding.SLOWER: Finding.FASTER}
    found, mirrored = pairs_of(*ratios), pairs_of(*[-ratio for ratio in ratios])
    assert opposite.get(found.finding, Finding.NOTHING) is mirrored.finding
    assert pytest.approx(found.margin) == mirrored.margin


@given(log_ratios)
def test_what_is_proven_lies_beyond_the_margin(ratios: list[float]) -> None:
    test = pairs_of(*ratios)
    assert (test.finding is not Finding.NOTHING) == (abs(test.mean) > test.margin)
    assert test.margin > 0.0
    assert len(test) >= LEAST_PAIRS or math.isinf(test.margin)


@pytest.mark.parametrize(("deviation", "most_wrong"), [(0.03, 0), (0.1, 2), (0.2, 15)])
def test_drafts_that_pay_by_a_twentieth_are_seldom_found_to_cost(
    deviation: float, most_wrong: int
) -> None:
    """And the other way round; of 500 tests with up to 48 pairs."""
    assert findings(0.05, deviation)[Finding.SLOWER] <= most_wrong
    assert findings(-0.05, deviation)[Finding.FASTER] <= most_wrong


def test_a_twentieth_is_mostly_found_and_a_third_always() -> None:
    assert findings(0.05, 0.1, 200)[Finding.FASTER] > 140
    assert {Finding.SLOWER: 200} == findings(-0.33, 0.1, 200)


def test_where_both_are_equal_little_is_found() -> None:
    assert findings(0.0, 0.1)[Finding.NOTHING] > 470


@pytest.mark.parametrize("deviation", [0.05, 0.1, 0.2, 0.25])
@pytest.mark.parametrize("mean", [0.0, 0.05, -0.05])
def test_a_look_at_one_pair_errs_no_more_often(mean: float, deviation: float) -> None:
    """What pairs of blocks deviate by is 0.05 to 0.2."""
    slower_or_faster = Finding.SLOWER if mean >= 0.0 else Finding.FASTER
    random = Random(f"{mean} {deviation}")
    wrong = {1: 0, LEAST_PAIRS: 0}
    for _ in range(400):
        ratios = [random.gauss(mean, deviation) for _ in range(MOST_PAIRS)]
        for least_pairs in wrong:
            wrong[least_pairs] += first_finding(ratios, least_pairs) is slower_or_faster
    assert wrong[1] <= wrong[LEAST_PAIRS] + 1
