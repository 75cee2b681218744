"""What waits to be sent on a websocket: messages in order, and long ones in parts between them.

A part is sent when no message waits, so that a long prompt holds no other stream up for longer than
one part takes. Long ones come one after the other. This module must never know a message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence


class SendQueueFull(Exception):
    """Too much waits; `str()` says what."""


class SendQueue:
    """Filled on the event loop, emptied by one writer."""

    def __init__(self, max_messages: int, max_bytes: int | None = None) -> None:
        """`max_bytes`: of messages and parts together; None: any."""
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._messages: deque[bytes] = deque()
        self._parts: deque[tuple[deque[bytes], Callable[[], bool]]] = deque()
        self._is_filled = asyncio.Event()
        self.is_ended = False
        self.num_bytes = 0  # of what waits

    @property
    def is_empty(self) -> bool:
        """Whether what is put next is the next to be sent."""
        return not (self._messages or self._parts or self.is_ended)

    def put(self, packed: bytes) -> None:
        """Queue a message.

        Raises:
            SendQueueFull: as many wait as may.
        """
        if len(self._messages) >= self._max_messages:
            raise SendQueueFull(f"{self._max_messages} messages wait to be read")
        self._make_room(len(packed))
        self._messages.append(packed)
        self._is_filled.set()

    def put_parts(
        self, parts: Sequence[bytes], is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Queue the parts of a long message; the rest of them is dropped once it is not wanted.

        Raises:
            SendQueueFull: as many bytes wait as may.
        """
        self._make_room(sum(map(len, parts)))
        self._parts.append((deque(parts), is_wanted))
        self._is_filled.set()

    def end(self) -> None:
        """Nothing comes after the messages that wait; parts are dropped."""
        self.is_ended = True
        while self._parts:
            self._drop_parts()
        self._is_filled.set()

    def take(self) -> bytes | None:
        """What is to be sent next; None: nothing waits."""
        packed = self._next()
        if packed is not None:
            self.num_bytes -= len(packed)
        return packed

    async def get(self) -> bytes | None:
        """Wait for what is to be sent next; None: that was all."""
        while (packed := self.take()) is None and not self.is_ended:
            self._is_filled.clear()
            await self._is_filled.wait()
        return packed

    def _make_room(self, num_bytes: int) -> None:
        if self._max_bytes is not None and self.num_bytes + num_bytes > self._max_bytes:
            raise SendQueueFull(f"more than {self._max_bytes} bytes wait to be read")
        self.num_bytes += num_bytes

    def _next(self) -> bytes | None:
        if self._messages:
            return self._messages.popleft()
        while self._parts:
            parts, is_wanted = self._parts[0]
            if parts and is_wanted():
                return parts.popleft()
            self._drop_parts()
        return None

    def _drop_parts(self) -> None:
        parts, _ = self._parts.popleft()
        self.num_bytes -= sum(map(len, parts))
