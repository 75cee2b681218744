"""What waits to be sent on one connection: bounded in messages, in bytes and in time.

This module must never let a board that does not read take memory for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiohttp import web

from shared.daemon.send_queue import SendQueue, SendQueueFull
from shared.protocol.transport import MAX_QUEUED_MESSAGES, SEND_TIMEOUT_SECONDS
from verifier.doors.board_socket import Overrun
from verifier.server.device_limits import DeviceUsage

# Far less than a transport takes before it asks its writers to wait (64 KiB).
AT_ONCE_BYTES = 4096


class Outgoing:
    """The messages of one connection on their way out; `write` sends them."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        usage: DeviceUsage,
        max_bytes: int,
        sent: Callable[[int], None],
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._usage = usage
        self._sent = sent
        self._num_counted_bytes = 0
        self._queue = SendQueue(MAX_QUEUED_MESSAGES, max_bytes)

    def put(self, packed: bytes) -> None:
        """Send a message, or queue it where it would have to wait.

        Raises:
            Overrun: too many wait to be read already.
        """
        if self._is_sent_at_once(packed):
            return
        try:
            self._queue.put(packed)
        except SendQueueFull as full:
            raise Overrun(str(full)) from None
        self._count()

    def put_parts(self, parts: Sequence[bytes]) -> None:
        """Queue the parts of a long message, to be sent between other messages; raises as `put`."""
        try:
            self._queue.put_parts(parts)
        except SendQueueFull as full:
            raise Overrun(str(full)) from None
        self._count()

    def end(self) -> None:
        """Nothing comes after the messages that are queued."""
        self._queue.end()
        self._count()

    def forget(self) -> None:
        """The connection is over: nothing waits any more."""
        while self._queue.take() is not None:
            pass
        self._count()

    async def write(self) -> None:
        """Send until `end`, then say goodbye to the socket.

        Raises:
            Overrun: the board does not read.
            ConnectionError: it is gone.
        """
        try:
            while (packed := await self._queue.get()) is not None:
                self._count()
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    await self._socket.send_bytes(packed)
                self._sent(len(packed))
            await self._socket.close()
        except TimeoutError:
            raise Overrun(f"nothing was read for {SEND_TIMEOUT_SECONDS:g} s") from None

    def _is_sent_at_once(self, packed: bytes) -> bool:
        """Hand a short message to a socket that takes it: no task has to run for most verdicts."""
        if len(packed) > AT_ONCE_BYTES or not self._queue.is_empty:
            return False
        if self._transport.is_closing() or self._transport.get_write_buffer_size():
            return False
        sending = self._socket.send_bytes(packed)
        try:
            sending.send(None)
        except StopIteration:
            self._sent(len(packed))
            return True
        except ConnectionError:
            return False  # `write` meets it, too
        raise AssertionError("a socket with nothing to send did not take a short message")

    def _count(self) -> None:
        self._usage.num_queued_bytes += self._queue.num_bytes - self._num_counted_bytes
        self._num_counted_bytes = self._queue.num_bytes
