"""The numbered events of one streamed answer, kept for clients that take it up again.

It must never know what an event says, nor how long it is kept; `kept_streams` decides that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from edge_agent.api.error_shapes import Failure

_END_OF_EVENT = b"\n\n"
_EVENT_OVERHEAD_BYTES = 48  # of Python, for each
_EVENTS_AT_ONCE = 64  # to a reader that catches up


class EventForgotten(Exception):
    """What follows the event that a reader names is not kept any more."""


class EventLog:
    """Written by one task and read by any number; every event is told with its id.

    An id is `{answer_id}:{number}`, numbers from 0 on. What a reader has yet to read is not
    forgotten, so that a client that stays connected misses nothing.
    """

    def __init__(self, answer_id: str | None) -> None:
        """Without an id its events have none either, and may be lines of any form."""
        self._answer_id = answer_id
        self.num_bytes = 0
        self.is_over = False
        self.failure: Failure | None = None  # before the first word: it can still be a status
        self._events: list[bytes] = []
        self._num_forgotten = 0
        self._places: dict[object, int] = {}  # of those that read
        self._news = asyncio.Event()

    @property
    def num_events(self) -> int:
        return self._num_forgotten + len(self._events)

    def write(self, events: bytes) -> None:
        """One event or more, each with its empty line."""
        if self._answer_id is None:
            self._add(events)
        else:
            for event in events.split(_END_OF_EVENT)[:-1]:
                name = f"id: {self._answer_id}:{self.num_events}\n".encode()
                self._add(name + event + _END_OF_EVENT)
        self._tell()

    def end(self) -> None:
        """Nothing comes any more."""
        self.is_over = True
        self._tell()

    def forget_what_was_read(self) -> None:
        """Forget the events that every reader has had."""
        num_read = min(self._places.values(), default=self.num_events) - self._num_forgotten
        forgotten, self._events = self._events[:num_read], self._events[num_read:]
        self._num_forgotten += len(forgotten)
        self.num_bytes -= sum(len(event) + _EVENT_OVERHEAD_BYTES for event in forgotten)

    async def read(self, num_known: int) -> AsyncGenerator[bytes]:
        """All events but the first ones, as they come.

        Raises:
            EventForgotten: an event between is not kept any more, or there never was one before.
        """
        if not self._num_forgotten <= num_known <= self.num_events:
            raise EventForgotten
        reader = object()
        self._places[reader] = num_known
        try:
            while True:
                begin = self._places[reader] - self._num_forgotten
                events = self._events[begin : begin + _EVENTS_AT_ONCE]
                if events:
                    yield b"".join(events)
                    self._places[reader] += len(events)
                elif self.is_over:
                    return
                else:
                    await self._news.wait()
        finally:
            del self._places[reader]

    def _add(self, event: bytes) -> None:
        self._events.append(event)
        self.num_bytes += len(event) + _EVENT_OVERHEAD_BYTES

    def _tell(self) -> None:
        self._news.set()  # wakes all that wait now
        self._news.clear()
