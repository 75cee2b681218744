"""Messages that arrive a little later, in their order: one direction of a slow link."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class DelayLane(Generic[_Item]):
    """Hands every item to `deliver` after `delay_seconds`; at once where that is 0."""

    def __init__(self, delay_seconds: float, deliver: Callable[[_Item], None]) -> None:
        self._delay_seconds = delay_seconds
        self._deliver = deliver
        self._items: deque[_Item] = deque()
        self._is_closed = False

    def put(self, item: _Item) -> None:
        """Send an item on its way."""
        if self._delay_seconds <= 0:
            self._deliver(item)
            return
        self._items.append(item)
        asyncio.get_running_loop().call_later(self._delay_seconds, self._arrive)

    def close(self) -> None:
        """Lose what is on its way: the link is gone."""
        self._is_closed = True
        self._items.clear()

    def _arrive(self) -> None:
        # Timers of equal time may fire in any order; the items keep theirs.
        if not self._is_closed:
            self._deliver(self._items.popleft())
