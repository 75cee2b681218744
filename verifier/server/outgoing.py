"""What waits to be sent on one connection: bounded in messages, in bytes and in time.

This module must never let a board that does not read take memory for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from shared.errors import GoodspeedError
from shared.protocol.transport import MAX_QUEUED_MESSAGES, SEND_TIMEOUT_SECONDS
from verifier.server.device_limits import DeviceUsage


class Overrun(GoodspeedError):
    """The board does not read what is sent."""


class Outgoing:
    """The messages of one connection on their way out; `write` sends them."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        usage: DeviceUsage,
        max_bytes: int,
        sent: Callable[[int], None],
    ) -> None:
        self._socket = socket
        self._usage = usage
        self._max_bytes = max_bytes
        self._sent = sent
        self._num_bytes = 0
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_QUEUED_MESSAGES)

    def put(self, packed: bytes) -> None:
        """Queue a message.

        Raises:
            Overrun: too many wait to be read already.
        """
        if self._num_bytes + len(packed) > self._max_bytes:
            raise Overrun(f"more than {self._max_bytes} bytes wait to be read")
        try:
            self._queue.put_nowait(packed)
        except asyncio.QueueFull:
            raise Overrun(f"{self._queue.maxsize} messages wait to be read") from None
        self._count(len(packed))

    def end(self) -> None:
        """Nothing comes after what is queued."""
        if self._queue.full():
            self._count(-len(self._queue.get_nowait() or b""))
        self._queue.put_nowait(None)

    def forget(self) -> None:
        """The connection is over: nothing waits any more."""
        self._count(-self._num_bytes)

    async def write(self) -> None:
        """Send until `end`, then say goodbye to the socket.

        Raises:
            Overrun: the board does not read.
            ConnectionError: it is gone.
        """
        try:
            while (packed := await self._queue.get()) is not None:
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    await self._socket.send_bytes(packed)
                self._count(-len(packed))
                self._sent(len(packed))
            await self._socket.close()
        except TimeoutError:
            raise Overrun(f"nothing was read for {SEND_TIMEOUT_SECONDS:g} s") from None

    def _count(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        self._usage.num_queued_bytes += num_bytes
