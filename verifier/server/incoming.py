"""What one board sends: frames of its websocket, accounted for and decoded, one at a time.

This module must never know what a message means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import WebSocketError, WSMessage, WSMsgType, web

from shared.errors import RemoteProtocolError
from shared.protocol.codec import decode_from_agent
from shared.protocol.messages import AgentMessage, Open, Resume
from verifier.server.device_limits import OPEN_COST, DeviceUsage


class Incoming:
    """The messages of one connection; `next` reads them, until `stop`."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        usage: DeviceUsage,
        received: Callable[[int], None],
    ) -> None:
        self._socket = socket
        self._usage = usage
        self._received = received
        self._is_stopped = False

    def stop(self) -> None:
        """Whatever still comes is ignored."""
        self._is_stopped = True

    def count_bytes(self, num_bytes: int) -> None:
        """So many bytes came, whatever frames they make.

        Raises:
            RemoteProtocolError: too many.
        """
        if not self._is_stopped:
            self._usage.take_bytes(num_bytes, asyncio.get_running_loop().time())

    async def next(self) -> AgentMessage | None:
        """The next message; None when there is none any more.

        Raises:
            RemoteProtocolError: something else came, or too much.
        """
        while True:
            # One frame for each turn of the event loop, however many a board sends at once.
            await asyncio.sleep(0)
            frame = await self._socket.receive()
            if self._is_stopped:
                return None
            match frame.type:
                case WSMsgType.BINARY:
                    return self._message(frame)
                case WSMsgType.PING | WSMsgType.PONG:
                    self._usage.take_messages(1, asyncio.get_running_loop().time())
                    await self._answer(frame)
                case WSMsgType.TEXT:
                    raise RemoteProtocolError("text frames are not allowed")
                case WSMsgType.ERROR if isinstance(frame.data, WebSocketError):
                    raise RemoteProtocolError(f"websocket frame is not allowed: {frame.data}")
                case _:
                    return None  # closed, or no answer to a ping

    def _message(self, frame: WSMessage) -> AgentMessage:
        self._received(len(frame.data))
        message = decode_from_agent(frame.data)
        cost = OPEN_COST if isinstance(message, Open | Resume) else 1
        self._usage.take_messages(cost, asyncio.get_running_loop().time())
        return message

    async def _answer(self, frame: WSMessage) -> None:
        if frame.type is WSMsgType.PING:
            with suppress(ConnectionError):
                await self._socket.pong(frame.data)
