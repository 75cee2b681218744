"""A board without a wire: frames go straight into a real DeviceConnection, one by one.

Some hundred times as fast as a socket, and what became of one frame is known before the next.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import WSMessage, WSMsgType

from shared.protocol.codec import decode_from_verifier, encode
from shared.protocol.messages import AgentMessage, VerifierMessage
from tests.support.ends.limits import make_device_limits
from verifier.engine.service import VerifierService
from verifier.server.connection import DeviceConnection
from verifier.server.device_limits import DeviceUsage
from verifier.server.loop_shares import LoopShares
from verifier.server.sockets.port_socket import PortSocket

# So that no limit is met: fuzzed messages come as fast as they can.
BOUNDLESS = make_device_limits(messages_per_second=10**9, bytes_per_second=10**12)
_CLOSED = WSMessage(WSMsgType.CLOSED, None, None)


class WiredSocket:
    """Stands for an aiohttp.web.WebSocketResponse, and for its transport."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_closed = False
        self._frame: asyncio.Future[WSMessage] | None = None
        self._is_waiting = asyncio.Event()

    async def receive(self) -> WSMessage:
        if self.is_closed:
            return _CLOSED
        self._frame = asyncio.get_running_loop().create_future()
        self._is_waiting.set()
        return await self._frame

    async def send_bytes(self, packed: bytes) -> None:
        if self.is_closed:
            raise ConnectionResetError
        self.sent.append(packed)

    async def pong(self, _data: bytes) -> None:
        """A board does not look at it."""

    async def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.is_closed = True
        self.feed(_CLOSED)

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        """All that was sent was read."""
        return 0

    def get_protocol(self) -> None:
        """No gate."""

    def feed(self, frame: WSMessage) -> None:
        if self._frame is not None and not self._frame.done():
            self._is_waiting.clear()
            self._frame.set_result(frame)

    async def is_ready(self, running: asyncio.Task[None]) -> bool:
        """Wait until the next frame is wanted; False when none will be."""
        while not running.done() and not self._is_waiting.is_set():  # noqa: ASYNC110 - a turn or two
            await asyncio.sleep(0)
        return not running.done()


class WiredBoard:
    """One connection; `say` returns when the frame was taken in."""

    def __init__(self, service: VerifierService, usage: DeviceUsage, device: str = "board") -> None:
        wire: Any = WiredSocket()
        self._wire: WiredSocket = wire
        shares = LoopShares(part_of_loop=1e9)  # as fast as the loop can
        socket = PortSocket(wire, wire, usage, 1 << 30, lambda num_bytes: None, service.precedence)
        self.connection = DeviceConnection(
            socket, service.device(device), service, usage, shares, frame_seconds=0.0
        )
        self.running = asyncio.create_task(self.connection.run(), name=f"wired-{device}")

    @property
    def is_over(self) -> bool:
        """Whether the verifier has ended the connection."""
        return self.running.done()

    def heard(self) -> list[VerifierMessage]:
        """What the verifier has said since this was asked last."""
        sent, self._wire.sent = self._wire.sent, []
        return [decode_from_verifier(packed) for packed in sent]

    async def say(self, message: AgentMessage | bytes, kind: WSMsgType = WSMsgType.BINARY) -> bool:
        """Send a message, or any bytes; whether the connection went on after it."""
        packed = message if isinstance(message, bytes) else encode(message)
        if not await self._wire.is_ready(self.running):
            return False
        self._wire.feed(WSMessage(kind, packed, None))
        return await self._wire.is_ready(self.running)

    async def leave(self) -> None:
        """Cut the connection; raises what the verifier's side raised."""
        self._wire.abort()
        await self.running
