"""Which blocks of the key/value cache belong to which stream, and what the free ones still hold.

A stream reserves blocks before it writes to them. A full block whose tokens are committed and read
gets a name; who starts with the same tokens may hold it too, also after its stream has ended, until
another takes it for something else. Named blocks are never written again (drafts, which may be
rolled back, lie behind them), so nothing is ever copied on write.

A table is one run of neighbouring blocks where possible: attention on a CPU reads such a table as a
slice of the cache, without copying. This module must never see a tensor or a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.errors import OutOfCache
from verifier.rounds.free_runs import HELD, FreeRuns

# What it costs to take a free block: nothing; the neighbour that a stream could have grown into;
# else it has a name, and the number tells when it was last used.
EMPTY = 0
KEPT = 1

# Shared blocks may split a table in two runs. Copying them together costs SmolLM2-135M 1 ms a round
# at 300 tokens, reading 16 tokens of a prompt anew some 25 ms once (2 cores of an EPYC, 2026-11):
# over a hundred rounds a shared part of the table below this one does not pay.
SMALLEST_SHARED_PART = 0.25


class _Table:
    __slots__ = ("blocks", "num_named", "num_tokens", "shown")

    def __init__(self, blocks: tuple[int, ...], num_tokens: int, num_named: int) -> None:
        self.blocks = blocks  # reserved, in the order of the stream's tokens
        self.num_tokens = num_tokens  # that the cache holds or is about to hold
        self.num_named = num_named  # of the first blocks; they are never written again
        self.shown: tuple[int, ...] = ()  # the first blocks, as they were asked for last


class BlockPool:
    """The blocks of one cache and the tables of the streams that hold them."""

    def __init__(self, num_blocks: int, block_tokens: int) -> None:
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        self._tables: dict[int, _Table] = {}
        self._num_holders = np.zeros(num_blocks, dtype=np.int64)
        self._free = FreeRuns(num_blocks, EMPTY)
        self._num_free = num_blocks
        self._block_of: dict[bytes, int] = {}  # by name
        self._name_of: dict[int, bytes] = {}
        self._is_named = np.zeros(num_blocks, dtype=np.bool_)  # the same, for many blocks at once
        self._clock = KEPT + 1

    @property
    def num_free_blocks(self) -> int:
        """Blocks that no stream has reserved; some may still hold what another can use."""
        return self._num_free

    def holds(self, stream: int) -> bool:
        """Whether the stream has a place."""
        return stream in self._tables

    def num_held_blocks(self, stream: int) -> int:
        """Blocks that the stream has reserved, those that it shares included; 0 without a place."""
        table = self._tables.get(stream)
        return 0 if table is None else len(table.blocks)

    def num_blocks_for(self, num_tokens: int) -> int:
        """Blocks that so many tokens of one stream take."""
        return -(-num_tokens // self.block_tokens)

    def num_reserved_tokens(self, stream: int) -> int:
        """Tokens that the stream's blocks can hold."""
        return len(self._tables[stream].blocks) * self.block_tokens

    def num_named_blocks(self, stream: int) -> int:
        """How many of the stream's first blocks have got their names."""
        return self._tables[stream].num_named

    def has_named(self, name: bytes) -> bool:
        """Whether a block has this name."""
        return name in self._block_of

    def find(self, names: Sequence[bytes], num_tokens: int) -> tuple[int, ...]:
        """Blocks with which a stream that needs `num_tokens` should start instead of reading.

        `names` are those of its first blocks. Few blocks that would split its table are left out.
        """
        found: list[int] = []
        for name in names:
            block = self._block_of.get(name)
            if block is None:
                break
            found.append(block)
        num_blocks = self.num_blocks_for(num_tokens)
        if not found or len(found) >= SMALLEST_SHARED_PART * num_blocks:
            return tuple(found)
        is_run = found == list(range(found[0], found[0] + len(found)))
        num_more = num_blocks - len(found)
        if not is_run or num_more > self._num_free:
            return ()
        follows = self._choose(num_more, found[-1])[0] == found[-1] + 1
        return tuple(found) if follows else ()

    def reserve(
        self, stream: int, num_tokens: int, shared: tuple[int, ...] = (), room_tokens: int = 0
    ) -> None:
        """Guarantee blocks for `num_tokens` tokens of a stream; again with more to raise it.

        A new stream starts with the `shared` blocks that `find` gave. As long as there are others,
        the blocks behind are left free for it, up to `room_tokens` tokens in all.

        Raises:
            OutOfCache: the free blocks do not suffice; nothing was changed.
        """
        is_new = stream not in self._tables
        table = self._new_table(shared) if is_new else self._tables[stream]
        num_more = max(self.num_blocks_for(num_tokens) - len(table.blocks), 0)
        num_free = self._num_free
        if is_new:
            num_free -= sum(1 for block in shared if not self._num_holders[block])
        if num_more > num_free:
            raise OutOfCache(
                f"{num_tokens} tokens need {num_more} more blocks of {self.block_tokens} tokens, "
                f"{num_free} of {self.num_blocks} are free"
            )
        if is_new:
            self._hold(shared)
            self._tables[stream] = table
        if num_more:
            taken = self._choose(num_more, table.blocks[-1] if table.blocks else None)
            for block in taken:
                self._forget(block)
            self._hold(taken)
            table.blocks += taken
            self._keep_room(table, room_tokens)

    def grow(self, stream: int, num_tokens: int) -> tuple[int, ...]:
        """The block table that holds the stream's first `num_tokens` tokens.

        Raises:
            OutOfCache: the stream reserved less.
        """
        table = self._tables[stream]
        num_blocks = self.num_blocks_for(num_tokens)
        if num_blocks > len(table.blocks):
            raise OutOfCache(
                f"{num_tokens} tokens need {num_blocks} blocks of {self.block_tokens} tokens, "
                f"the stream reserved {len(table.blocks)}"
            )
        table.num_tokens = max(table.num_tokens, num_tokens)
        if len(table.shown) != num_blocks:  # of a long table every round would make another copy
            table.shown = table.blocks[:num_blocks]
        return table.shown

    def shrink(self, stream: int, num_tokens: int) -> None:
        """Roll the stream back to its first `num_tokens` tokens; its reservation stays."""
        table = self._tables[stream]
        assert num_tokens <= table.num_tokens, "a roll-back adds no tokens"
        assert num_tokens >= table.num_named * self.block_tokens, "named blocks stay as they are"
        table.num_tokens = num_tokens

    def share(self, stream: int, names: Sequence[bytes]) -> None:
        """Let others start with the stream's first blocks, which are full and will not change.

        `names` are those of all of them, from the first one on. Where another block has the name
        already, that one stays the one that is found.
        """
        table = self._tables[stream]
        assert len(names) * self.block_tokens <= table.num_tokens, "only full blocks get names"
        for i in range(table.num_named, len(names)):
            if names[i] not in self._block_of:
                self._block_of[names[i]] = table.blocks[i]
                self._name_of[table.blocks[i]] = names[i]
                self._is_named[table.blocks[i]] = True
        table.num_named = max(table.num_named, len(names))

    def release(self, stream: int, *, is_reusable: bool = True) -> None:
        """The stream lost its place: its blocks are free again, those with names can be found.

        Not `is_reusable`: what they hold may be wrong, so no other stream may start with it.
        """
        blocks = self._tables.pop(stream).blocks
        if not is_reusable:
            for block in blocks:
                self._forget(block)
        indices = np.array(blocks, dtype=np.intp)
        self._num_holders[indices] -= 1
        self._num_free += int((self._num_holders[indices] == 0).sum())
        # The end of a chain is of no use without its beginning, so it is taken first.
        newest = self._clock + len(blocks)
        costs = np.where(self._is_named[indices], np.arange(newest, newest - len(blocks), -1), KEPT)
        is_free = self._num_holders[indices] == 0
        self._free.change(indices[is_free], costs[is_free])
        self._clock = newest + 1

    def check_integrity(self) -> None:
        """Every block is free or held, held by two only with a name, every table has room."""
        num_holders = np.zeros(self.num_blocks, dtype=np.int64)
        for table in self._tables.values():
            assert len(set(table.blocks)) == len(table.blocks), "a block stands twice in a table"
            num_holders[list(table.blocks)] += 1
            assert self.num_blocks_for(table.num_tokens) <= len(table.blocks)
            assert table.num_named * self.block_tokens <= table.num_tokens
        assert (num_holders == self._num_holders).all(), "a block is lost or counted twice"
        assert int((num_holders == 0).sum()) == self._num_free
        for table in self._tables.values():
            alone = list(table.blocks[table.num_named :])
            assert (num_holders[alone] == 1).all(), "a block that is still written is shared"
        assert {name: block for block, name in self._name_of.items()} == self._block_of
        for block in range(self.num_blocks):
            is_named = block in self._name_of
            cost = int(self._free.costs[block])
            assert is_named == self._is_named[block]
            assert (cost == HELD) == bool(num_holders[block])
            assert num_holders[block] or (cost > KEPT) == is_named

    def _new_table(self, shared: tuple[int, ...]) -> _Table:
        return _Table(shared, len(shared) * self.block_tokens, len(shared))

    def _hold(self, blocks: tuple[int, ...]) -> None:
        indices = list(blocks)
        self._num_free -= int((self._num_holders[indices] == 0).sum())
        self._num_holders[indices] += 1
        self._free.change(indices, HELD)

    def _forget(self, block: int) -> None:
        name = self._name_of.pop(block, None)
        if name is not None:
            del self._block_of[name]
            self._is_named[block] = False

    def _keep_room(self, table: _Table, room_tokens: int) -> None:
        num_more = max(self.num_blocks_for(room_tokens) - len(table.blocks), 0)
        behind = table.blocks[-1] + 1
        if num_more and behind < self.num_blocks:
            room = slice(behind, min(behind + num_more, self.num_blocks))
            self._free.change(room, np.maximum(self._free.costs[room], KEPT))

    def _choose(self, num_blocks: int, last: int | None) -> tuple[int, ...]:
        """That many free blocks: the cheapest run, those behind `last` if they cost no more.

        A run costs as much as its dearest block.
        """
        if last is not None and self._can_grow(last + 1, num_blocks):
            return tuple(range(last + 1, last + 1 + num_blocks))
        start, cost = self._free.cheapest(num_blocks)
        if last is not None:
            behind_cost = self._free.cost_from(last + 1, num_blocks)
            if behind_cost < HELD and behind_cost <= max(cost, KEPT):
                start, cost = last + 1, behind_cost
        if cost < HELD:
            return tuple(range(start, start + num_blocks))
        cheapest = np.argsort(self._free.costs, kind="stable")[:num_blocks]
        return tuple(sorted(cheapest.tolist()))

    def _can_grow(self, behind: int, num_blocks: int) -> bool:
        """Whether the blocks from `behind` on are free and hold nothing, which is mostly so."""
        return self._free.cost_from(behind, num_blocks) <= KEPT
