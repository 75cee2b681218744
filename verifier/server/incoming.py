"""What one board sends: frames of its websocket, accounted for and decoded, one at a time.

This module must never know what a message means.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from shared.errors import RemoteProtocolError
from shared.protocol.codec import decode_from_agent
from shared.protocol.messages import AgentMessage, Draft, Open, Resume
from verifier.doors.board_socket import Frame
from verifier.server.device_limits import OPEN_COST, DeviceUsage
from verifier.server.loop_shares import LoopShares
from verifier.server.message_time import MessageTime


class Incoming:
    """The messages of one connection: `take` a frame, do what it asks, say `done`; until `stop`.

    From `take` to `done` the caller must not wait: that time is the message's.
    """

    def __init__(
        self,
        device: str,
        usage: DeviceUsage,
        shares: LoopShares,
        received: Callable[[int], None],
        frame_seconds: float,
    ) -> None:
        """`frame_seconds`: what a frame costs the event loop beside the time that is measured."""
        self._device = device
        self._shares = shares
        self._time = MessageTime()
        self._usage = usage
        self._received = received
        self._frame_seconds = frame_seconds
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

    def seconds_to_wait(self) -> float:
        """How long the next frame has to wait; 0: not at all.

        A device whose frames took more than its share while all took too much waits.
        """
        if self._is_stopped:
            return 0.0
        return self._shares.seconds_to_wait(self._device, time.monotonic())

    def take(self, frame: Frame, content: bytes) -> AgentMessage | None:
        """The message of a frame; None: it has none.

        Raises:
            RemoteProtocolError: something else came, or too much.
        """
        self._time.begin(len(content) if frame is Frame.MESSAGE else 0)
        match frame:
            case Frame.MESSAGE:
                return self._message(content)
            case Frame.CONTROL:
                self._usage.take_messages(1, asyncio.get_running_loop().time())
                return None
            case Frame.TEXT:
                raise RemoteProtocolError("text frames are not allowed")
            case Frame.BROKEN:
                sentence = content.decode(errors="replace")
                raise RemoteProtocolError(f"websocket frame is not allowed: {sentence}")

    def done(self) -> None:
        """What the frame asked for is done."""
        seconds = self._time.end()
        if seconds is not None:
            self._shares.spend(self._device, seconds + self._frame_seconds, time.monotonic())

    def _message(self, packed: bytes) -> AgentMessage:
        self._received(len(packed))
        message = decode_from_agent(packed)
        if not isinstance(message, Draft):
            self._time.is_not_small()
        cost = OPEN_COST if isinstance(message, Open | Resume) else 1
        self._usage.take_messages(cost, asyncio.get_running_loop().time())
        return message
