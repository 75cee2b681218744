"""What a door says, handed on entry by entry: at once, but behind a round that is over.

This module must never know what an entry means.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from verifier.doors.traffic import Entry

# Taken in one turn of the event loop: 2 ms of it.
MOST_AT_ONCE = 64


class Inward:
    """Batches in, entries out; what has waited for one round waits for no other."""

    def __init__(
        self,
        hand_on: Callable[[int, int, int, bytes], None],
        postpones: Callable[[Callable[[], None]], bool],
        stand_still: Callable[[bool], None],
    ) -> None:
        """`postpones`: whether a call has to wait, until when it is made; asked before each entry.

        `stand_still`: whether no more batches should come, for those that are here wait.
        """
        self._hand_on = hand_on
        self._postpones = postpones
        self._tell_still = stand_still
        self._pending: deque[Entry] = deque()
        self._num_due = 0  # of those, that give way to no round any more
        self._is_still = False

    def take(self, batch: list[Entry]) -> None:
        """Hand a batch on, behind those before it."""
        is_behind = bool(self._pending)
        self._pending.extend(batch)
        if not is_behind:
            self._go_on()

    def clear(self) -> None:
        """Nothing that is here counts any more; batches may come again."""
        self._pending.clear()
        self._num_due = 0
        self._is_still = False

    def _go_on(self) -> None:
        for _ in range(min(MOST_AT_ONCE, len(self._pending))):
            if self._num_due:
                self._num_due -= 1
            elif self._postpones(self._go_on_after_round):
                self._stand_still(True)
                return
            self._hand_on(*self._pending.popleft())
        self._stand_still(bool(self._pending))
        if self._pending:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on_after_round(self) -> None:
        self._num_due = len(self._pending)
        self._go_on()

    def _stand_still(self, is_still: bool) -> None:
        if self._is_still is not is_still:
            self._is_still = is_still
            self._tell_still(is_still)
