"""The search for the largest number within a time: right for every curve, quick for lines."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from verifier.cost_curve.largest_within import largest_within


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=80),
    st.integers(-3, 200),
    st.integers(0, 20),
)
def test_it_finds_what_a_search_by_halves_finds(
    steps: list[int], most_seconds: int, least: int
) -> None:
    seconds = list(accumulate(steps))
    end = len(seconds) - 1
    least = min(least, end)
    looks: list[int] = []

    def seconds_of(number: int) -> float:
        looks.append(number)
        return float(seconds[number])

    found = largest_within(least, end, most_seconds, seconds_of)
    larger = range(least + 1, end + 1)
    assert found == least + bisect_right(larger, most_seconds, key=seconds.__getitem__)
    assert len(looks) <= 2 + 3 * len(seconds).bit_length()
    assert all(least <= number <= end for number in looks)


@given(st.floats(1e-6, 1.0), st.floats(0.0, 10.0), st.integers(0, 8191), st.integers(0, 8192))
def test_on_a_line_four_or_five_looks_do(
    slope: float, base: float, number: int, least: int
) -> None:
    looks: list[int] = []

    def seconds_of(each: int) -> float:
        looks.append(each)
        return base + slope * each

    found = largest_within(least, 8192, base + slope * (number + 0.5), seconds_of)
    assert found == max(number, least)
    assert len(looks) <= 5


def test_an_end_that_is_no_more_than_the_least_is_not_asked_about() -> None:
    def seconds_of(number: int) -> float:
        raise AssertionError(number)

    assert [3, 3] == [largest_within(3, end, 0.0, seconds_of) for end in (3, 1)]
