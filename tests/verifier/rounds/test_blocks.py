"""The block bookkeeping: reservations hold, no block is lost, tables are runs where possible,
and what is found again is what was written."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.errors import OutOfCache
from verifier.rounds.blocks import BlockPool


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


def stands_at(pool: BlockPool, stream: int, num_tokens: int) -> bool:
    """Whether the stream's table holds so many tokens: it can be rolled back there, not further."""
    with pytest.raises(AssertionError, match="a roll-back adds no tokens"):
        pool.shrink(stream, num_tokens + 1)
    pool.shrink(stream, num_tokens)
    return True


def test_a_roll_back_keeps_the_reservation() -> None:
    pool = BlockPool(num_blocks=4, block_tokens=4)
    pool.reserve(1, 16)
    pool.grow(1, 9)
    assert stands_at(pool, 1, 9)
    pool.shrink(1, 4)
    assert stands_at(pool, 1, 4)
    assert (0, 16) == (pool.num_free_blocks, pool.num_reserved_tokens(1))


# --- blocks with names ----------------------------------------------------------------------------


def names(text: str) -> list[bytes]:
    """One block for each letter; a name tells all letters up to its own."""
    return [text[: i + 1].encode() for i in range(len(text))]


def hold(
    pool: BlockPool, stream: int, text: str, num_tokens: int, room_tokens: int = 0
) -> tuple[int, ...]:
    """Let a stream start with this text, one letter a block, and write it; returns its table."""
    pool.reserve(stream, num_tokens, pool.find(names(text), num_tokens), room_tokens)
    table = pool.grow(stream, num_tokens)
    pool.share(stream, names(text))
    return table


def test_what_a_stream_has_read_is_found_while_it_runs_and_after_its_end() -> None:
    pool = BlockPool(num_blocks=8, block_tokens=1)
    assert (0, 1, 2, 3) == hold(pool, 1, "abc", 4)
    assert (0, 1, 2) == pool.find(names("abcd"), 4)
    assert (0, 1) == pool.find(names("abx"), 4)
    assert () == pool.find(names("xbc"), 4)
    pool.release(1)
    assert 8 == pool.num_free_blocks
    assert (0, 1, 2) == pool.find(names("abcd"), 4)


def test_shared_blocks_are_counted_once_and_stay_until_the_last_holder_ends() -> None:
    pool = BlockPool(num_blocks=8, block_tokens=1)
    hold(pool, 1, "abc", 4)
    assert (0, 1, 2, 4) == hold(pool, 2, "abc", 4)
    assert 3 == pool.num_free_blocks
    pool.release(1)
    assert 4 == pool.num_free_blocks
    pool.reserve(3, 4)
    assert (3, 5, 6, 7) == pool.grow(3, 4)
    pool.release(2)
    pool.check_integrity()


def test_free_blocks_that_are_shared_are_no_room_for_the_rest() -> None:
    pool = BlockPool(num_blocks=4, block_tokens=1)
    hold(pool, 1, "ab", 2)
    pool.release(1)
    with pytest.raises(OutOfCache, match="5 tokens need 3 more blocks of 1 tokens, 2 of 4 are"):
        pool.reserve(2, 5, pool.find(names("ab"), 5))
    pool.check_integrity()
    pool.reserve(2, 4, pool.find(names("ab"), 4))
    assert (0, 1, 2, 3) == pool.grow(2, 4)


def test_the_next_turn_of_a_chat_goes_on_where_the_last_one_ended() -> None:
    pool = BlockPool(num_blocks=32, block_tokens=1)
    hold(pool, 1, "abcdef", 8, room_tokens=16)
    pool.release(1)
    assert tuple(range(16, 24)) == hold(pool, 2, "xyz", 8)
    assert tuple(range(16)) == hold(pool, 3, "abcdefghij", 16)


def test_a_stream_that_grows_finds_room_behind_it() -> None:
    pool = BlockPool(num_blocks=32, block_tokens=1)
    for stream in (1, 2):
        pool.reserve(stream, 4, room_tokens=10)
    for stream in (1, 2):
        pool.reserve(stream, 10, room_tokens=10)
    assert tuple(range(10)) == pool.grow(1, 10)
    assert tuple(range(10, 20)) == pool.grow(2, 10)


def test_room_that_is_kept_is_taken_before_anything_is_forgotten() -> None:
    pool = BlockPool(num_blocks=12, block_tokens=1)
    hold(pool, 1, "abcd", 4)
    pool.release(1)
    pool.reserve(2, 2, room_tokens=8)
    assert (6, 7, 8) == reserved(pool, 3, 3)
    assert (0, 1, 2, 3) == pool.find(names("abcd"), 4)


def reserved(pool: BlockPool, stream: int, num_tokens: int) -> tuple[int, ...]:
    pool.reserve(stream, num_tokens)
    return pool.grow(stream, num_tokens)


def test_the_least_recently_used_chain_is_taken_first_and_its_end_before_its_beginning() -> None:
    pool = BlockPool(num_blocks=8, block_tokens=1)
    hold(pool, 1, "abcd", 4)
    hold(pool, 2, "wxyz", 4)
    pool.release(2)
    pool.release(1)
    assert (6, 7) == reserved(pool, 3, 2)
    assert (4, 5) == pool.find(names("wxyz"), 4)
    assert (0, 1, 2, 3) == pool.find(names("abcd"), 4)
    assert (4, 5) == reserved(pool, 4, 2)
    assert (3,) == reserved(pool, 5, 1)
    assert (0, 1, 2) == pool.find(names("abcd"), 4)


def test_a_chain_that_is_used_again_is_the_most_recent_one() -> None:
    pool = BlockPool(num_blocks=8, block_tokens=1)
    hold(pool, 1, "abcd", 4)
    hold(pool, 2, "wxyz", 4)
    pool.release(1)
    pool.release(2)
    hold(pool, 3, "abcd", 4)
    pool.release(3)
    reserved(pool, 4, 4)
    assert (4, []) == (len(pool.find(names("abcd"), 4)), list(pool.find(names("wxyz"), 4)))


def test_few_shared_blocks_are_left_out_where_they_would_split_the_table() -> None:
    pool = BlockPool(num_blocks=64, block_tokens=1)
    hold(pool, 1, "abcdef", 8)
    assert (0, 1, 2) == pool.find(names("abcx"), 12)
    assert () == pool.find(names("abcx"), 13)
    pool.release(1)
    # Behind the whole chain is room; behind its beginning stands the rest of it.
    assert (0, 1, 2, 3, 4, 5) == pool.find(names("abcdef"), 40)
    assert () == pool.find(names("abcx"), 40)
    assert () == pool.find(names("abcdef"), 65)


def test_the_same_text_read_twice_is_found_once() -> None:
    pool = BlockPool(num_blocks=8, block_tokens=1)
    for stream in (1, 2):
        pool.reserve(stream, 2)
        pool.grow(stream, 2)
    for stream in (1, 2):
        pool.share(stream, names("ab"))
    assert (0, 1) == pool.find(names("ab"), 2)
    pool.release(1)
    pool.release(2)
    pool.check_integrity()
    assert (0, 1) == pool.find(names("ab"), 2)


def test_what_may_be_wrong_is_not_found_again() -> None:
    pool = BlockPool(num_blocks=8, block_tokens=1)
    hold(pool, 1, "abc", 4)
    hold(pool, 2, "abc", 4)
    pool.release(2, is_reusable=False)
    assert () == pool.find(names("abc"), 4)
    pool.release(1)
    pool.check_integrity()
    assert () == pool.find(names("abc"), 4)


def test_only_full_blocks_get_names_and_they_are_never_rolled_back() -> None:
    pool = BlockPool(num_blocks=8, block_tokens=4)
    pool.reserve(1, 12)
    pool.grow(1, 11)
    with pytest.raises(AssertionError):
        pool.share(1, names("abc"))
    pool.share(1, names("ab"))
    assert 2 == pool.num_named_blocks(1)
    pool.shrink(1, 8)
    with pytest.raises(AssertionError):
        pool.shrink(1, 7)


NUM_BLOCKS = 12
BLOCK_TOKENS = 3


class BlockPoolMachine(RuleBasedStateMachine):
    """Random streams start, grow, roll back, share and end; no token's block changes on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS, BLOCK_TOKENS)
        self.names: dict[int, list[bytes]] = {}  # what each stream is going to write
        self.tables: dict[int, tuple[int, ...]] = {}
        self.lengths: dict[int, int] = {}
        self.contents: dict[int, bytes] = {}  # the name of what was last written to each block

    @rule(
        stream=st.integers(0, 5),
        text=st.text("ab", min_size=NUM_BLOCKS, max_size=NUM_BLOCKS),
        num_tokens=st.integers(0, 40),
    )
    def start(self, stream: int, text: str, num_tokens: int) -> None:
        if stream in self.tables:
            return
        named = names(text)
        found = self.pool.find(named[: max(num_tokens - 1, 0) // BLOCK_TOKENS], num_tokens)
        assert [self.contents[block] for block in found] == named[: len(found)]
        held = {block for table in self.tables.values() for block in table}
        num_free = NUM_BLOCKS - len(held | set(found))
        if -(-num_tokens // BLOCK_TOKENS) - len(found) > num_free:
            with pytest.raises(OutOfCache):
                self.pool.reserve(stream, num_tokens, found)
            return
        self.pool.reserve(stream, num_tokens, found, room_tokens=num_tokens + 6)
        self.names[stream] = named
        self.tables[stream] = self.pool.grow(stream, 0)
        self.lengths[stream] = len(found) * BLOCK_TOKENS
        self.keep_table(stream)
        assert found == self.tables[stream][: len(found)]

    @precondition(lambda self: self.tables)
    @rule(data=st.data(), num_tokens=st.integers(0, 40))
    def reserve_more(self, data: st.DataObject, num_tokens: int) -> None:
        stream = data.draw(st.sampled_from(sorted(self.tables)))
        num_more = -(-num_tokens // BLOCK_TOKENS) - len(self.tables[stream])
        if num_more > self.pool.num_free_blocks:
            with pytest.raises(OutOfCache):
                self.pool.reserve(stream, num_tokens)
        else:
            self.pool.reserve(stream, num_tokens)
        self.keep_table(stream)

    def keep_table(self, stream: int) -> None:
        """The stream's whole reservation; what it had stays where it was."""
        num_reserved = self.pool.num_reserved_tokens(stream)
        table = self.pool.grow(stream, num_reserved)
        self.pool.shrink(stream, self.lengths[stream])
        assert self.tables[stream] == table[: len(self.tables[stream])]
        self.tables[stream] = table

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(sorted(self.tables)))
        before, table = self.lengths[stream], self.tables[stream]
        length = data.draw(st.integers(before, len(table) * BLOCK_TOKENS))
        assert table[: -(-length // BLOCK_TOKENS)] == self.pool.grow(stream, length)
        for i in range(before // BLOCK_TOKENS, -(-length // BLOCK_TOKENS)):
            self.contents[table[i]] = self.names[stream][i]
        self.lengths[stream] = length

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(sorted(self.tables)))
        num_full = data.draw(st.integers(0, self.lengths[stream] // BLOCK_TOKENS))
        self.pool.share(stream, self.names[stream][:num_full])

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def shrink(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(sorted(self.tables)))
        least = self.pool.num_named_blocks(stream) * BLOCK_TOKENS
        self.lengths[stream] = data.draw(st.integers(least, self.lengths[stream]))
        self.pool.shrink(stream, self.lengths[stream])

    @precondition(lambda self: self.tables)
    @rule(data=st.data(), is_reusable=st.booleans())
    def release(self, data: st.DataObject, is_reusable: bool) -> None:
        stream = data.draw(st.sampled_from(sorted(self.tables)))
        self.pool.release(stream, is_reusable=is_reusable)
        for known in (self.names, self.tables, self.lengths):
            del known[stream]

    @invariant()
    def nothing_is_lost(self) -> None:
        self.pool.check_integrity()
        held = {block for table in self.tables.values() for block in table}
        assert NUM_BLOCKS - len(held) == self.pool.num_free_blocks
        assert all(stands_at(self.pool, *length) for length in self.lengths.items())

    @invariant()
    def everybody_holds_what_he_has_written(self) -> None:
        for stream, table in self.tables.items():
            num_written = -(-self.lengths[stream] // BLOCK_TOKENS)
            contents = [self.contents[block] for block in table[:num_written]]
            assert self.names[stream][:num_written] == contents


TestBlockPool = BlockPoolMachine.TestCase
TestBlockPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
