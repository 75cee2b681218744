"""The guilty items of a failed round are found, the others run, within a bound."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations

import pytest

from verifier.rounds.bisection import MAX_RERUNS, Bisection


def searched(
    num_items: int, fails: Callable[[range], bool], max_reruns: int = MAX_RERUNS
) -> tuple[Bisection, Counter[int], int]:
    """The search at its end, how often each item ran through, and how many parts were run."""
    search = Bisection(num_items, max_reruns)
    passed: Counter[int] = Counter()
    num_runs = 0
    while (part := search.next_part) is not None:
        num_runs += 1
        has_failed = fails(part)
        if not has_failed:
            passed.update(part)
        search.tell(has_failed=has_failed)
    return search, passed, num_runs


@pytest.mark.parametrize("num_items", range(1, 11))
def test_any_set_of_guilty_items_is_found_and_all_others_run_once(num_items: int) -> None:
    for num_guilty in range(1, num_items + 1):
        for guilty in combinations(range(num_items), num_guilty):
            search, passed, _ = searched(num_items, lambda part: bool({*part} & {*guilty}))  # noqa: B023
            assert list(guilty) == sorted(search.guilty)
            assert [] == search.undecided
            assert dict.fromkeys({*range(num_items)} - {*guilty}, 1) == passed


@pytest.mark.parametrize("num_items", [2, 3, 64, 100, 1000, 1024])
def test_one_guilty_item_takes_two_runs_for_each_halving(num_items: int) -> None:
    for guilty in {0, 1, num_items // 3, num_items - 1}:
        search, passed, num_runs = searched(num_items, lambda part: guilty in part)  # noqa: B023
        assert [guilty] == search.guilty
        assert num_items - 1 == passed.total()
        assert num_runs <= 2 * math.ceil(math.log2(num_items))


def test_three_guilty_items_of_a_thousand_stay_within_the_bound() -> None:
    search, passed, num_runs = searched(1024, lambda part: bool({*part} & {1, 400, 900}))
    assert [1, 400, 900] == sorted(search.guilty)
    assert (1021, True) == (passed.total(), num_runs <= 60)


def test_what_fails_only_together_has_no_guilty_item() -> None:
    """As where two prompts need more memory than there is, and one does not."""
    search, passed, _ = searched(8, lambda part: 2 in part and 3 in part)
    assert ([], dict.fromkeys(range(8), 1)) == (search.guilty, passed)


@pytest.mark.parametrize("num_items", [1, 2, 5, 200])
@pytest.mark.parametrize("max_reruns", [0, 1, 7, 64])
def test_a_failure_that_hits_everything_ends_within_the_bound(
    num_items: int, max_reruns: int
) -> None:
    search, passed, num_runs = searched(num_items, lambda part: True, max_reruns)
    assert num_runs <= max_reruns
    assert (0, list(range(num_items))) == (
        passed.total(),
        sorted([*search.guilty, *search.undecided]),
    )
