"""Numbers of many items survive the way as bytes; what does not come out even is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from verifier.workers.columns import blocks_of, cut, packed, runs_of, unpacked

NUM_BLOCKS = 64


@given(st.lists(st.integers(0, NUM_BLOCKS - 1), unique=True))
def test_a_table_survives_as_runs(blocks: list[int]) -> None:
    assert tuple(blocks) == blocks_of(runs_of(tuple(blocks)), NUM_BLOCKS)


def test_a_table_of_neighbours_is_one_run() -> None:
    assert [7, 30] == runs_of(tuple(range(7, 37)))
    assert [7, 2, 3, 1] == runs_of((7, 8, 3))


@given(st.lists(st.integers(0, 200), min_size=2, max_size=6).filter(lambda runs: not len(runs) % 2))
def test_no_run_leads_out_of_the_cache(runs: list[int]) -> None:
    try:
        table = blocks_of(runs, NUM_BLOCKS)
    except RemoteProtocolError:
        return
    assert len(table) <= NUM_BLOCKS
    assert all(0 <= block < NUM_BLOCKS for block in table)


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_numbers_survive(numbers: list[int]) -> None:
    assert numbers == unpacked(packed(numbers, "<u4"), "<u4", "numbers", len(numbers)).tolist()


def test_a_length_that_does_not_fit_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        unpacked(b"123", "<u4", "numbers")
    with pytest.raises(RemoteProtocolError):
        unpacked(b"1234", "<u4", "numbers", 2)
    with pytest.raises(RemoteProtocolError):
        cut((1, 2, 3), (1, 1), "tokens")
    assert [(1,), (2, 3)] == cut((1, 2, 3), (1, 2), "tokens")
