"""The cheapest run of neighbouring blocks, found without looking at every block again.

The cache is cut in parts. For every length that was asked for lately, each part remembers the
cheapest run that begins in it, until one of the blocks that such a run may hold changes. This
module must never know who holds a block.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from shared.speculation.goodput import IntArray

# Costs more than any free block.
HELD = np.iinfo(np.int64).max

# To look at a part takes some 10 us; 262,144 blocks have 256 of them.
PART_BLOCKS = 1024
# Streams grow by one length; prompts begin with many.
MAX_LENGTHS = 64


class _Known:
    """Of one length: each part's cheapest run, and as of which change."""

    __slots__ = ("as_of", "costs", "starts")

    def __init__(self, num_parts: int) -> None:
        self.costs = np.full(num_parts, HELD, dtype=np.int64)
        self.starts = np.zeros(num_parts, dtype=np.int64)
        self.as_of = np.full(num_parts, -1, dtype=np.int64)


class FreeRuns:
    """What each block costs; a run costs as much as its dearest block."""

    def __init__(self, num_blocks: int, cost: int) -> None:
        self.costs = np.full(num_blocks, cost, dtype=np.int64)
        self._num_parts = -(-num_blocks // PART_BLOCKS)
        self._num_changes = np.zeros(self._num_parts, dtype=np.int64)
        self._known: OrderedDict[int, _Known] = OrderedDict()

    def change(self, blocks: Sequence[int] | IntArray | slice, costs: IntArray | int) -> None:
        """These blocks cost something else from now on."""
        self.costs[blocks] = costs
        if isinstance(blocks, slice):
            first, last = blocks.start, min(blocks.stop, len(self.costs)) - 1
            self._num_changes[first // PART_BLOCKS : last // PART_BLOCKS + 1] += 1
        elif len(blocks):
            self._num_changes[np.unique(np.asarray(blocks) // PART_BLOCKS)] += 1

    def cost_from(self, start: int, length: int) -> int:
        """What the run of so many blocks costs that begins at `start`; HELD beyond the end."""
        if start + length > len(self.costs):
            return HELD
        return int(self.costs[start : start + length].max())

    def cheapest(self, length: int) -> tuple[int, int]:
        """Where the cheapest run of so many blocks begins, the first of equal ones, and its cost.

        HELD: there is no run of free ones.
        """
        known = self._known.get(length)
        if known is None:
            known = self._known[length] = _Known(self._num_parts)
            if len(self._known) > MAX_LENGTHS:
                self._known.popitem(last=False)
        self._known.move_to_end(length)
        # A run that begins in a part may reach into those behind it; sums of counts only grow.
        num_more = -(-(length - 1) // PART_BLOCKS)
        sums = np.concatenate([[0], np.cumsum(self._num_changes)])
        ends = np.minimum(np.arange(self._num_parts) + 1 + num_more, self._num_parts)
        as_of = sums[ends] - sums[:-1]
        for part in np.flatnonzero(as_of != known.as_of).tolist():
            self._look_at(known, part, length)
        known.as_of = as_of
        best = int(known.costs.argmin())
        return int(known.starts[best]), int(known.costs[best])

    def _look_at(self, known: _Known, part: int, length: int) -> None:
        first = part * PART_BLOCKS
        within = self.costs[first : first + PART_BLOCKS + length - 1]
        if len(within) < length:
            known.costs[part] = HELD
            return
        run_costs = largest_of_neighbours(within, length)
        best = int(run_costs.argmin())
        known.starts[part], known.costs[part] = first + best, run_costs[best]


def largest_of_neighbours(values: IntArray, num_neighbours: int) -> IntArray:
    """The largest of each `num_neighbours` values that stand beside each other."""
    width = 1
    while width < num_neighbours:
        step = min(width, num_neighbours - width)
        values = np.maximum(values[:-step], values[step:])
        width += step
    return values
