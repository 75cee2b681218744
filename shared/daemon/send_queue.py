"""What waits to be sent on a websocket: messages in order, and long ones in parts between them.

A part is sent when no message waits, so that a long prompt holds no other stream up for longer than
one part takes. Long ones come one after the other. This module must never know a message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence


class SendQueueFull(Exception):
    """Too many messages wait."""


class SendQueue:
    """Filled on the event loop, emptied by one writer."""

    def __init__(self, max_messages: int) -> None:
        self.max_messages = max_messages
        self._messages: deque[bytes] = deque()
        self._parts: deque[tuple[deque[bytes], Callable[[], bool]]] = deque()
        self._is_ended = False
        self._is_filled = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether what is put next is the next to be sent."""
        return not (self._messages or self._parts or self._is_ended)

    def put(self, packed: bytes) -> None:
        """Queue a message.

        Raises:
            SendQueueFull: as many wait as may.
        """
        if len(self._messages) >= self.max_messages:
            raise SendQueueFull
        self._messages.append(packed)
        self._is_filled.set()

    def put_parts(
        self, parts: Sequence[bytes], is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Queue the parts of a long message; the rest of them is dropped once it is not wanted."""
        self._parts.append((deque(parts), is_wanted))
        self._is_filled.set()

    def end(self) -> None:
        """Nothing comes after the messages that wait; parts are dropped."""
        self._is_ended = True
        self._parts.clear()
        self._is_filled.set()

    async def get(self) -> bytes | None:
        """Wait for what is to be sent next; None: that was all."""
        while (packed := self._next()) is None and not self._is_ended:
            self._is_filled.clear()
            await self._is_filled.wait()
        return packed

    def _next(self) -> bytes | None:
        if self._messages:
            return self._messages.popleft()
        while self._parts:
            parts, is_wanted = self._parts[0]
            if parts and is_wanted():
                return parts.popleft()
            self._parts.popleft()
        return None
