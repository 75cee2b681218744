"""How far drafts come: a histogram by position in the draft.

This module must never know why a draft was made, nor what is believed of its board.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

# The longest draft whose every position is counted.
MAX_COUNTED_POSITIONS = 64


class PositionCounts:
    """How often each position of a draft was reached, and accepted.

    Position 0 is the first token that a round tests; positions from `MAX_COUNTED_POSITIONS` on are
    left out.
    """

    __slots__ = ("_num_drafts",)

    def __init__(self) -> None:
        # By tokens accepted and rejected: every stream counts in every round, and few ever ask.
        self._num_drafts: Counter[tuple[int, int]] = Counter()

    def observe(self, num_accepted: int, num_rejected: int) -> None:
        """Count one draft with its accepted tokens and its rejected one (0 or 1)."""
        if num_accepted or num_rejected:
            self._num_drafts[num_accepted, num_rejected] += 1

    @property
    def reached(self) -> list[int]:
        """Drafts that came to each position, up to the last one that any of them came to."""
        lengths: Counter[int] = Counter()
        for end, count in self._num_drafts.items():
            lengths[sum(end)] += count
        return _num_longer(lengths, self._num_positions)

    @property
    def accepted(self) -> list[int]:
        """Drafts whose token at each position was accepted; as many positions as in `reached`."""
        lengths: Counter[int] = Counter()
        for (num_accepted, _), count in self._num_drafts.items():
            lengths[num_accepted] += count
        return _num_longer(lengths, self._num_positions)

    @property
    def _num_positions(self) -> int:
        num_reached = max((sum(end) for end in self._num_drafts), default=0)
        return min(num_reached, MAX_COUNTED_POSITIONS)


def _num_longer(lengths: Mapping[int, int], num_positions: int) -> list[int]:
    """How many are longer than each position, of so many of each length."""
    num_longer = sum(count for length, count in lengths.items() if length > num_positions)
    counts = []
    for position in reversed(range(num_positions)):
        num_longer += lengths.get(position + 1, 0)
        counts.append(num_longer)
    return counts[::-1]
