"""Which blocks of the key/value cache belong to which stream, in plain integers.

A stream reserves all the blocks that it may ever need before it starts, so a running stream
never runs out of cache.  A reservation is one run of neighbouring blocks where there is one:
attention reads such a table as a slice of the cache, without copying.  This module must never
see a tensor.
"""

from __future__ import annotations

import msgspec

from shared.errors import OutOfCache


class _Table(msgspec.Struct):
    blocks: tuple[int, ...]  # reserved, in the order of the stream's tokens
    num_tokens: int = 0  # that the cache holds or is about to hold


class BlockPool:
    """The blocks of one cache and the tables of the streams that hold them."""

    def __init__(self, num_blocks: int, block_tokens: int) -> None:
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        self._free = [range(num_blocks)] if num_blocks else []  # ascending, never touching
        self._tables: dict[int, _Table] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks that no stream has reserved."""
        return sum(map(len, self._free))

    @property
    def num_used_blocks(self) -> int:
        """Blocks that hold tokens."""
        return sum(self._num_blocks_for(table.num_tokens) for table in self._tables.values())

    def reserve(self, stream: int, num_tokens: int) -> None:
        """Guarantee blocks for `num_tokens` tokens of a stream; again with more to raise it.

        Raises:
            OutOfCache: the free blocks do not suffice; nothing was changed.
        """
        table = self._tables.get(stream, _Table(blocks=()))
        num_more = self._num_blocks_for(num_tokens) - len(table.blocks)
        if num_more > self.num_free_blocks:
            raise OutOfCache(
                f"{num_tokens} tokens need {num_more} more blocks of {self.block_tokens} tokens, "
                f"{self.num_free_blocks} of {self.num_blocks} are free"
            )
        table.blocks += self._take(max(num_more, 0), after=table.blocks[-1:])
        self._tables[stream] = table

    def grow(self, stream: int, num_tokens: int) -> tuple[int, ...]:
        """The block table that holds the stream's first `num_tokens` tokens.

        Raises:
            OutOfCache: the stream reserved less.
        """
        table = self._tables[stream]
        num_blocks = self._num_blocks_for(num_tokens)
        if num_blocks > len(table.blocks):
            raise OutOfCache(
                f"{num_tokens} tokens need {num_blocks} blocks of {self.block_tokens} tokens, "
                f"the stream reserved {len(table.blocks)}"
            )
        table.num_tokens = max(table.num_tokens, num_tokens)
        return table.blocks[:num_blocks]

    def shrink(self, stream: int, num_tokens: int) -> None:
        """Roll the stream back to its first `num_tokens` tokens; its reservation stays."""
        table = self._tables[stream]
        assert num_tokens <= table.num_tokens, "a roll-back adds no tokens"
        table.num_tokens = num_tokens

    def release(self, stream: int) -> None:
        """The stream ended: its blocks are free again."""
        blocks = self._tables.pop(stream).blocks
        self._free = _joined([*self._free, *(range(block, block + 1) for block in blocks)])

    def check_integrity(self) -> None:
        """Every block is free or in exactly one table, and every table holds its tokens."""
        held = [block for table in self._tables.values() for block in table.blocks]
        free = [block for run in self._free for block in run]
        assert sorted(held + free) == list(range(self.num_blocks)), "a block is lost or held twice"
        assert self._free == _joined(self._free), "neighbouring free runs were not joined"
        for table in self._tables.values():
            assert self._num_blocks_for(table.num_tokens) <= len(table.blocks)

    def _num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_tokens)

    def _take(self, num_blocks: int, after: tuple[int, ...]) -> tuple[int, ...]:
        """Free blocks: those that follow `after`, else the first run that is long enough."""
        follows = [run for run in self._free if after and run.start == after[0] + 1]
        fitting = [run for run in self._free if len(run) >= num_blocks][:1]
        taken: list[int] = []
        for run in (*follows, *fitting, *self._free):
            if run in self._free:
                part = run[: num_blocks - len(taken)]
                taken += part
                self._free[self._free.index(run)] = run[len(part) :]
                self._free = [left for left in self._free if left]
        return tuple(taken)


def _joined(runs: list[range]) -> list[range]:
    """The same blocks in as few runs as possible, ascending."""
    joined: list[range] = []
    for run in sorted(runs, key=lambda run: run.start):
        if joined and joined[-1].stop == run.start:
            joined[-1] = range(joined[-1].start, run.stop)
        else:
            joined.append(run)
    return joined
