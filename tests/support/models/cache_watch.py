"""Who wrote what into which cell of the target's cache, and what a stream would read there."""

from __future__ import annotations

from verifier.target.round import RoundItem


class CacheWatch:
    """A cell remembers the whole sequence that its keys and values were computed from.

    So a read also shows cells that are stale, foreign or missing.
    """

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._cells: dict[tuple[int, int], tuple[int, ...]] = {}

    def write(self, item: RoundItem) -> None:
        """The item's tokens go into its blocks."""
        assert item.token_ids, "an item without tokens has no query"
        for position, token_id in enumerate(item.token_ids, start=item.num_cached_tokens):
            before = self._cells[self._cell(item, position - 1)] if position else ()
            self._cells[self._cell(item, position)] = (*before, token_id)

    def read(self, item: RoundItem) -> tuple[int, ...]:
        """The sequence that the item's last query sees; all its cells must agree on it."""
        written = [self._cells[self._cell(item, i)] for i in range(item.context_tokens)]
        assert [written[-1][: i + 1] for i in range(len(written))] == written
        return written[-1]

    def _cell(self, item: RoundItem, position: int) -> tuple[int, int]:
        block, offset = divmod(position, self._block_tokens)
        return item.block_table[block], offset
