"""Simulated time: a heap of what is to happen, the earliest first."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Protocol


class Clock(Protocol):
    """What the parts of a world know of time: the simulator's heap, or an event loop in a test."""

    @property
    def now(self) -> float: ...

    def call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> None: ...


class HeapClock:
    """Things that happen at the same time happen in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.num_events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._num_asked = 0

    def call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> None:
        """Let something happen; what should have happened already happens next."""
        self._num_asked += 1
        when = when if when > self.now else self.now
        heapq.heappush(self._heap, (when, self._num_asked, callback, arguments))

    def run(self, until: float) -> None:
        """Let time pass up to a moment."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, callback, arguments = heapq.heappop(heap)
            self.num_events += 1
            callback(*arguments)
        self.now = until
