"""What one board sends: frames of its websocket, accounted for and decoded, one at a time.

This module must never know what a message means.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from aiohttp import WebSocketError, WSMessage, WSMsgType, web

from shared.errors import RemoteProtocolError
from shared.protocol.codec import decode_from_agent
from shared.protocol.messages import AgentMessage, Draft, Open, Resume
from verifier.engine.round_precedence import RoundPrecedence
from verifier.server.device_limits import OPEN_COST, DeviceUsage
from verifier.server.loop_shares import LoopShares
from verifier.server.message_time import MessageTime


class Incoming:
    """The messages of one connection; `next` reads them, until `stop`.

    From one `next` to the following one the caller must not wait: that time is the message's.
    """

    def __init__(
        self,
        device: str,
        socket: web.WebSocketResponse,
        usage: DeviceUsage,
        shares: LoopShares,
        received: Callable[[int], None],
        precedence: RoundPrecedence,
    ) -> None:
        self._device = device
        self._precedence = precedence
        self._socket = socket
        self._shares = shares
        self._time = MessageTime()
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
            await self._turn()
            frame = await self._socket.receive()
            await self._precedence.give_way()
            self._time.begin(len(frame.data) if frame.type is WSMsgType.BINARY else 0)
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

    async def _turn(self) -> None:
        """One frame for each turn of the event loop, however many a board sends at once.

        A device whose frames took more than its share while all took too much waits for longer.
        """
        seconds = self._time.end()
        if seconds is not None:
            self._shares.spend(self._device, seconds, time.monotonic())
        await asyncio.sleep(0)
        while not self._is_stopped:
            seconds = self._shares.seconds_to_wait(self._device, time.monotonic())
            if not seconds:
                return
            await asyncio.sleep(seconds)

    def _message(self, frame: WSMessage) -> AgentMessage:
        self._received(len(frame.data))
        message = decode_from_agent(frame.data)
        if not isinstance(message, Draft):
            self._time.is_not_small()
        cost = OPEN_COST if isinstance(message, Open | Resume) else 1
        self._usage.take_messages(cost, asyncio.get_running_loop().time())
        return message

    async def _answer(self, frame: WSMessage) -> None:
        if frame.type is WSMsgType.PING:
            with suppress(ConnectionError):
                await self._socket.pong(frame.data)
