"""The block bookkeeping: reservations hold, no block is lost, tables are runs where possible."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.errors import OutOfCache
from verifier.blocks import BlockPool


def test_a_table_holds_the_tokens_and_no_more_blocks() -> None:
    pool = BlockPool(num_blocks=8, block_tokens=4)
    pool.reserve(1, 13)
    assert (0,) == pool.grow(1, 1)
    assert (0,) == pool.grow(1, 4)
    assert (0, 1) == pool.grow(1, 5)
    assert (0, 1, 2, 3) == pool.grow(1, 16)


def test_a_reservation_that_does_not_fit_names_value_and_limit() -> None:
    pool = BlockPool(num_blocks=4, block_tokens=16)
    pool.reserve(1, 17)
    with pytest.raises(OutOfCache) as raised:
        pool.reserve(2, 33)
    assert "33 tokens need 3 more blocks of 16 tokens, 2 of 4 are free" == str(raised.value)
    assert 2 == pool.num_free_blocks


def test_a_stream_cannot_grow_beyond_its_reservation() -> None:
    pool = BlockPool(num_blocks=4, block_tokens=16)
    pool.reserve(1, 16)
    with pytest.raises(OutOfCache) as raised:
        pool.grow(1, 17)
    expected = "17 tokens need 2 blocks of 16 tokens, the stream reserved 1"
    assert expected == str(raised.value)


def test_a_reservation_is_one_run_where_there_is_one() -> None:
    pool = BlockPool(num_blocks=10, block_tokens=1)
    for stream, num_tokens in ((1, 2), (2, 3), (3, 1)):
        pool.reserve(stream, num_tokens)
    pool.release(1)
    pool.reserve(4, 4)
    pool.reserve(5, 2)
    assert (6, 7, 8, 9) == pool.grow(4, 4)
    assert (0, 1) == pool.grow(5, 2)


def test_a_reservation_takes_scattered_blocks_when_it_must() -> None:
    pool = BlockPool(num_blocks=5, block_tokens=1)
    for stream in range(5):
        pool.reserve(stream, 1)
    for stream in (0, 2, 4):
        pool.release(stream)
    pool.reserve(9, 3)
    assert (0, 2, 4) == pool.grow(9, 3)


def test_a_raised_reservation_goes_on_where_it_ended() -> None:
    pool = BlockPool(num_blocks=9, block_tokens=2)
    pool.reserve(1, 4)
    pool.reserve(2, 2)
    pool.release(2)
    pool.reserve(1, 8)
    assert (0, 1, 2, 3) == pool.grow(1, 8)
    pool.reserve(1, 2)
    assert (0, 1, 2, 3) == pool.grow(1, 8)


def test_a_roll_back_keeps_the_reservation_and_shows_in_the_use() -> None:
    pool = BlockPool(num_blocks=4, block_tokens=4)
    pool.reserve(1, 16)
    pool.grow(1, 9)
    assert 3 == pool.num_used_blocks
    pool.shrink(1, 4)
    assert 1 == pool.num_used_blocks
    assert 0 == pool.num_free_blocks
    with pytest.raises(AssertionError):
        pool.shrink(1, 5)


class BlockPoolMachine(RuleBasedStateMachine):
    """Random streams reserve, grow, roll back and end; no token's block changes on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(num_blocks=12, block_tokens=3)
        self.reserved: dict[int, int] = {}  # blocks
        self.tables: dict[int, tuple[int, ...]] = {}
        self.lengths: dict[int, int] = {}

    @rule(stream=st.integers(0, 5), num_tokens=st.integers(0, 40))
    def reserve(self, stream: int, num_tokens: int) -> None:
        num_blocks = max(-(-num_tokens // 3), self.reserved.get(stream, 0))
        others = sum(self.reserved.values()) - self.reserved.get(stream, 0)
        if num_blocks + others > 12:
            with pytest.raises(OutOfCache):
                self.pool.reserve(stream, num_tokens)
        else:
            self.pool.reserve(stream, num_tokens)
            self.reserved[stream] = num_blocks
            self.tables.setdefault(stream, ())
            self.lengths.setdefault(stream, 0)

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(sorted(self.reserved)))
        num_tokens = data.draw(st.integers(self.lengths[stream], self.reserved[stream] * 3))
        table = self.pool.grow(stream, num_tokens)
        num_same = min(len(table), len(self.tables[stream]))
        assert self.tables[stream][:num_same] == table[:num_same]
        assert -(-num_tokens // 3) == len(table)
        self.tables[stream] = table
        self.lengths[stream] = num_tokens

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def shrink(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(sorted(self.reserved)))
        self.lengths[stream] = data.draw(st.integers(0, self.lengths[stream]))
        self.pool.shrink(stream, self.lengths[stream])

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(sorted(self.reserved)))
        self.pool.release(stream)
        for known in (self.reserved, self.tables, self.lengths):
            del known[stream]

    @invariant()
    def nothing_is_lost(self) -> None:
        self.pool.check_integrity()
        assert 12 - sum(self.reserved.values()) == self.pool.num_free_blocks
        used = sum(-(-length // 3) for length in self.lengths.values())
        assert used == self.pool.num_used_blocks


TestBlockPool = BlockPoolMachine.TestCase
TestBlockPool.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
