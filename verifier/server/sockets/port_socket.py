"""A board's websocket in the verifier's own process, behind its port.

This module must never know what a message means.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from aiohttp import WebSocketError, WSMessage, WSMsgType, web

from shared.daemon.connection_gate import gated_connection_of
from verifier.doors.board_socket import Frame, Listener, Overrun
from verifier.engine.round_precedence import RoundPrecedence
from verifier.server.device_limits import DeviceUsage
from verifier.server.sockets.outgoing import Outgoing

# What a frame costs the event loop beside what is measured: the system's call, aiohttp's parser, a
# turn of the loop (15 to 30 us on 2 cores, 2026-11).
FRAME_SECONDS = 20e-6
# What comes sooner behind a frame of the same board was sent at once with it: that waits a turn of
# the loop, which costs 2 us. Boards answer rounds, which take longer.
AT_ONCE_SECONDS = 1e-3


class PortSocket:
    """Implements `BoardSocket` by aiohttp's websocket."""

    def __init__(
        self,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
        usage: DeviceUsage,
        max_queued_bytes: int,
        sent: Callable[[int], None],
        precedence: RoundPrecedence,
    ) -> None:
        self._websocket = websocket
        self._transport = transport
        self._precedence = precedence
        self._outgoing = Outgoing(websocket, transport, usage, max_queued_bytes, sent)
        self._overrun: Overrun | None = None
        self._writer: asyncio.Task[None] | None = None

    def put(self, packed: bytes) -> None:
        self._outgoing.put(packed)

    def put_parts(self, parts: Sequence[bytes]) -> None:
        self._outgoing.put_parts(parts)

    def end(self) -> None:
        self._outgoing.end()

    def abort(self) -> None:
        self._transport.abort()

    def deafen(self) -> None:
        gated = gated_connection_of(self._transport)
        if gated is not None:
            gated.is_deaf = True

    async def read(self, listener: Listener) -> None:
        """One frame for each turn of the event loop, however many a board sends at once."""
        self._writer = asyncio.create_task(self._write(), name="write-to-board")
        taken_at = -math.inf
        while not listener.is_over:
            while seconds := listener.seconds_to_wait():  # noqa: ASYNC110 - time alone makes room
                await asyncio.sleep(seconds)
            message = await self._websocket.receive()
            if time.monotonic() - taken_at < AT_ONCE_SECONDS:
                await asyncio.sleep(0)
            await self._precedence.give_way()
            if self._overrun is not None:
                raise self._overrun
            frame = _frame(message)
            if frame is None or listener.is_over:
                return
            listener.take(*frame)
            taken_at = time.monotonic()
            if message.type is WSMsgType.PING:
                with suppress(ConnectionError):
                    await self._websocket.pong(message.data)

    async def farewell(self, seconds: float) -> None:
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=seconds)
            self._writer.cancel()
        self._transport.abort()  # what a dead peer has not read would wait for it forever
        self._outgoing.forget()

    async def _write(self) -> None:
        try:
            await self._outgoing.write()
        except Overrun as overrun:
            self._overrun = overrun
            self._transport.abort()  # the reader notices
        except ConnectionError:
            self._transport.abort()  # the board is gone


def _frame(message: WSMessage) -> tuple[Frame, bytes] | None:
    """None: the connection is closed, or a ping was not answered."""
    match message.type:
        case WSMsgType.BINARY:
            return Frame.MESSAGE, message.data
        case WSMsgType.PING | WSMsgType.PONG:
            return Frame.CONTROL, b""
        case WSMsgType.TEXT:
            return Frame.TEXT, b""
        case WSMsgType.ERROR if isinstance(message.data, WebSocketError):
            return Frame.BROKEN, str(message.data).encode()
        case _:
            return None
