"""The run that is found is the one that a look at every block would find."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.rounds import free_runs
from verifier.rounds.free_runs import HELD, FreeRuns, largest_of_neighbours


def looked_for(runs: FreeRuns, length: int) -> tuple[int, int]:
    """The same by the plain way."""
    costs = largest_of_neighbours(runs.costs, length)
    start = int(costs.argmin())
    return start, int(costs[start])


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_runs, "PART_BLOCKS", 8)


changes = st.lists(
    st.tuples(
        st.integers(0, 59),
        st.integers(1, 20),
        st.sampled_from([0, 1, 5, HELD]),
        st.integers(1, 30),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(changes)
def test_the_cheapest_run_is_found_whatever_changed(
    changes: list[tuple[int, int, int, int, bool]],
) -> None:
    runs = FreeRuns(60, 0)
    for first, count, cost, length, is_slice in changes:
        last = min(first + count, 60)
        blocks = slice(first, last) if is_slice else list(range(first, last))
        runs.change(blocks, cost)
        start, found = runs.cheapest(length)
        expected = looked_for(runs, length)
        assert found == expected[1]
        assert found == HELD or start == expected[0]
        assert runs.cost_from(first, length) == (
            HELD if first + length > 60 else int(runs.costs[first : first + length].max())
        )


def test_a_run_longer_than_the_cache_is_none() -> None:
    assert HELD == FreeRuns(10, 0).cheapest(11)[1]


def test_lengths_that_are_not_asked_for_are_forgotten() -> None:
    runs = FreeRuns(200, 0)
    for length in range(1, 150):
        assert (0, 0) == runs.cheapest(length)
    assert len(runs._known) == free_runs.MAX_LENGTHS


def test_a_large_cache_is_not_looked_through_for_each_reservation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(free_runs, "PART_BLOCKS", 1024)
    runs = FreeRuns(1 << 18, 5)
    runs.cheapest(16)
    looks: list[int] = []
    look_at = FreeRuns._look_at
    monkeypatch.setattr(
        FreeRuns, "_look_at", lambda *args: (looks.append(args[2]), look_at(*args))[1]
    )
    generator = np.random.default_rng(3)
    started = time.thread_time()
    for block in generator.integers(0, 1 << 18, 100).tolist():
        runs.change([block], HELD)
        runs.cheapest(16)
    assert len(looks) <= 200, "a part, and one before it whose runs reach into it"
    assert time.thread_time() - started < 1.0
