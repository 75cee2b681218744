"""How far drafts come: a histogram by position in the draft.

This module must never know why a draft was made, nor what is believed of its board.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

# The longest draft whose every position is counted.
MAX_COUNTED_POSITIONS = 64

# How far drafts come is shown for each of the first positions, then for ever more of them at once:
# few series, because each costs 5 us of the event loop (1,000 devices, 2 cores, 2026-11).
SHOWN_POSITIONS = (
    *(range(position, position + 1) for position in range(4)),
    *(range(4, 8), range(8, 16), range(16, 32), range(32, MAX_COUNTED_POSITIONS)),
)


def name_of(positions: range) -> str:
    """One of `SHOWN_POSITIONS` as people read it: `3`, or `4-7`."""
    return f"{positions[0]}" if len(positions) == 1 else f"{positions[0]}-{positions[-1]}"


def shown(counts: Sequence[int]) -> list[int]:
    """Counts by position, as sums over each of `SHOWN_POSITIONS` as far as they go."""
    return [sum(counts[p.start : p.stop]) for p in SHOWN_POSITIONS if p.start < len(counts)]


class PositionCounts:
    """How often each position of a draft was reached, and accepted.

    Position 0 is the first token that a round tests; positions from `MAX_COUNTED_POSITIONS` on are
    left out.
    """

    __slots__ = ("_num_drafts",)

    def __init__(self) -> None:
        # By tokens accepted and rejected: every stream counts in every round, and few ever ask.
        self._num_drafts: dict[tuple[int, int], int] = {}

    def observe(self, num_accepted: int, num_rejected: int) -> None:
        """Count one draft with its accepted tokens and its rejected one (0 or 1)."""
        if num_accepted or num_rejected:
            end = num_accepted, num_rejected
            self._num_drafts[end] = self._num_drafts.get(end, 0) + 1

    @property
    def reached(self) -> list[int]:
        """Drafts that came to each position, up to the last one that any of them came to."""
        return self.bars()[0]

    @property
    def accepted(self) -> list[int]:
        """Drafts whose token at each position was accepted; as many positions as in `reached`."""
        return self.bars()[1]

    def bars(self) -> tuple[list[int], list[int]]:
        """`reached` and `accepted` of the same moment; for any thread."""
        counts = tuple(self._num_drafts.items())  # in one step
        last = min(max((sum(end) for end, _ in counts), default=0), MAX_COUNTED_POSITIONS)
        reached, accepted = [0] * (last + 1), [0] * (last + 1)  # by length
        for (num_accepted, num_rejected), count in counts:
            reached[min(num_accepted + num_rejected, last)] += count
            accepted[min(num_accepted, last)] += count
        return _num_longer(reached), _num_longer(accepted)


def _num_longer(num_of_length: Sequence[int]) -> list[int]:
    """How many are longer than each position, of so many of each length."""
    return list(accumulate(reversed(num_of_length[1:])))[::-1]
