"""What a door sends on one websocket: bounded in messages, in bytes and in time.

This module must never let a board that does not read take memory for long.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence

from aiohttp import WSCloseCode, WSMsgType

from shared.daemon.send_queue import SendQueue, SendQueueFull
from shared.protocol.transport import MAX_QUEUED_MESSAGES, SEND_TIMEOUT_SECONDS

_SHORT, _LONG, _LONGEST = struct.Struct("!BB"), struct.Struct("!BBH"), struct.Struct("!BBQ")
_CODE = struct.Struct("!H")


def frame_of(kind: WSMsgType, content: bytes) -> bytes:
    """A server's frame, whole and without a mask (RFC 6455, section 5.2)."""
    first, length = 0x80 | kind, len(content)
    if length < 126:
        return _SHORT.pack(first, length) + content
    if length < 1 << 16:
        return _LONG.pack(first, 126, length) + content
    return _LONGEST.pack(first, 127, length) + content


class Outward:
    """Messages on their way to a board; all on the event loop, and without tasks."""

    def __init__(
        self,
        max_bytes: int,
        cut_off: Callable[[str], None],
        tell_queued: Callable[[int], None],
        said_goodbye: Callable[[], None],
    ) -> None:
        """`cut_off` is called with a sentence where the board does not read what it is sent."""
        self._queue = SendQueue(MAX_QUEUED_MESSAGES, max_bytes)
        self._cut_off, self._tell_queued = cut_off, tell_queued
        self._said_goodbye = said_goodbye
        self._has_said_goodbye = False
        self._transport: asyncio.Transport | None = None
        self._is_paused = True  # until there is a transport
        self._close_code: int = WSCloseCode.OK
        self._stall: asyncio.TimerHandle | None = None
        self._num_told_bytes = 0

    def begin(self, transport: asyncio.Transport) -> None:
        """The websocket is there; what was queued before is sent."""
        self._transport = transport
        self.resume()

    def put(self, packed: bytes) -> None:
        """Send a message, or queue it; nothing comes after `end`."""
        if self._queue.is_ended:
            return
        if not self._is_paused and self._queue.is_empty:
            self._write(WSMsgType.BINARY, packed)
            return
        try:
            self._queue.put(packed)
        except SendQueueFull as full:
            self._give_up(str(full))
        self._account()

    def put_parts(self, parts: Sequence[bytes]) -> None:
        """Queue the parts of a long message, to be sent between other messages."""
        if self._queue.is_ended:
            return
        try:
            self._queue.put_parts(parts)
        except SendQueueFull as full:
            self._give_up(str(full))
        self._pump()

    def control(self, kind: WSMsgType, content: bytes) -> None:
        """Send a ping or a pong, where there is room: a board that reads nothing gets none."""
        if not self._is_paused and not self._queue.is_ended:
            self._write(kind, content)

    def end(self, close_code: int = WSCloseCode.OK) -> None:
        """Say goodbye after what is queued; nothing comes after it."""
        if not self._queue.is_ended:
            self._close_code = close_code
            self._queue.end()
            self._pump()

    def drop(self) -> None:
        """Send nothing of what is queued."""
        while self._queue.take() is not None:
            pass

    def pause(self) -> None:
        """The board reads slowly."""
        self._is_paused = True
        loop = asyncio.get_running_loop()
        sentence = f"nothing was read for {SEND_TIMEOUT_SECONDS:g} s"
        self._stall = loop.call_later(SEND_TIMEOUT_SECONDS, self._give_up, sentence)

    def resume(self) -> None:
        """The board reads."""
        self._is_paused = False
        self._end_stall()
        self._pump()

    def lose(self) -> None:
        """The connection is gone."""
        self._transport, self._is_paused = None, True
        self._end_stall()
        self.drop()
        self._account()

    def _pump(self) -> None:
        while not self._is_paused and (packed := self._queue.take()) is not None:
            self._write(WSMsgType.BINARY, packed)
        self._account()
        if not self._is_paused and self._queue.is_ended and not self._has_said_goodbye:
            self._has_said_goodbye = True
            self._write(WSMsgType.CLOSE, _CODE.pack(self._close_code))
            self._said_goodbye()

    def _write(self, kind: WSMsgType, content: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(frame_of(kind, content))

    def _give_up(self, sentence: str) -> None:
        self.drop()
        self._queue.end()
        self._cut_off(sentence)

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _account(self) -> None:
        if self._queue.num_bytes != self._num_told_bytes:
            self._num_told_bytes = self._queue.num_bytes
            self._tell_queued(self._num_told_bytes)
