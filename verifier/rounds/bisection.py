"""Which items of a failed round to run again, until the guilty ones stand alone.

Pure: what was run and what came of it are told, time is the caller's. Running an item again stores
the same keys and values and draws the same tokens, and no item reads what another one stores in the
same round, so every part of a round may be run by itself. This module must never run one.
"""

from __future__ import annotations

from collections import deque

# Parts that are run again after one failure. Three guilty items of 1,024 take 60 at most, one 20.
MAX_RERUNS = 64


class Bisection:
    """The search through one failed round: run `next_part`, tell what came of it, again.

    Halves are run before quarters, so that most of the innocent are through early.
    """

    def __init__(self, num_items: int, max_reruns: int = MAX_RERUNS) -> None:
        """Begin after all items, one or more, have failed together."""
        self.guilty: list[int] = []  # they failed alone
        self._num_reruns_left = max_reruns
        self._parts: deque[range] = deque()
        self._split(range(num_items))

    @property
    def next_part(self) -> range | None:
        """The items to run together now; None: the search is over."""
        return self._parts[0] if self._parts and self._num_reruns_left > 0 else None

    @property
    def undecided(self) -> list[int]:
        """Items that failed with others and were not run since."""
        return [item for part in self._parts for item in part]

    def tell(self, *, has_failed: bool) -> None:
        """What came of `next_part`: alone it is guilty, else its halves are to be run."""
        self._num_reruns_left -= 1
        part = self._parts.popleft()
        if has_failed:
            self._split(part)

    def _split(self, part: range) -> None:
        if len(part) == 1:
            self.guilty.append(part[0])
            return
        middle = len(part) // 2
        self._parts += (part[:middle], part[middle:])
