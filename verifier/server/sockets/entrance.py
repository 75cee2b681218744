"""From a board's upgrade to its connection: in the verifier's own process, or behind a door.

Who may come in was decided before. This module must never know what a message means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from shared.daemon.connection_gate import gated_connection_of
from shared.protocol.messages import MAX_MESSAGE_BYTES
from shared.protocol.token_ids import MAX_ID_BYTES
from verifier.doors import door_socket
from verifier.doors.board_socket import BoardSocket
from verifier.doors.door_socket import Accounts
from verifier.doors.doors import Doors
from verifier.doors.kept_door import KeptDoor
from verifier.engine.device import Device
from verifier.engine.service import VerifierService
from verifier.server.connection import FAREWELL_SECONDS, DeviceConnection
from verifier.server.device_limits import DeviceUsage
from verifier.server.loop_shares import LoopShares
from verifier.server.sockets import port_socket
from verifier.server.sockets.port_socket import PortSocket

# A message that is somewhat too long is answered by a sentence, a longer one by its close code.
MAX_FRAME_BYTES = 2 * MAX_MESSAGE_BYTES


class Entrance:
    """Serves the websockets of boards; `connections` are those that are open, with their device."""

    def __init__(
        self,
        service: VerifierService,
        doors: Doors,
        shares: LoopShares,
        drafts_changed: Callable[[Device], None],
        *,
        heartbeat_seconds: float,
        keeps_texts: bool,
    ) -> None:
        self.connections: dict[DeviceConnection, str] = {}
        self._service = service
        self._doors = doors
        self._shares = shares
        self._drafts_changed = drafts_changed
        self._heartbeat_seconds = heartbeat_seconds
        self._keeps_texts = keeps_texts

    async def serve(
        self, request: web.Request, name: str, usage: DeviceUsage
    ) -> web.StreamResponse:
        """Until the device's connection is over; gives what was sent as the answer.

        Raises:
            HTTPBadRequest: the request is no upgrade.
            ConnectionError: the connection ended before it was one of a board.
        """
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the connection ended before the handshake")
        door = self._door_for(request, transport)
        websocket = web.WebSocketResponse(
            compress=False,
            autoping=False,  # pings count as messages
            max_msg_size=MAX_FRAME_BYTES,
            heartbeat=self._heartbeat_seconds if door is None else None,
            timeout=FAREWELL_SECONDS,
        )
        if door is None:
            await self._serve_here(request, websocket, transport, name, usage)
        else:
            await self._serve_behind(door, request, websocket, transport, name, usage)
        return websocket

    def _door_for(self, request: web.Request, transport: asyncio.Transport) -> KeptDoor | None:
        """Where to hand the websocket over, nothing of which is read any more; None: here.

        What came behind the request already cannot be put back into the socket.
        """
        door = self._doors.least_busy()
        if door is None:
            return None
        transport.pause_reading()
        if request.protocol._message_tail:
            transport.resume_reading()
            return None
        return door

    async def _serve_here(
        self,
        request: web.Request,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
        name: str,
        usage: DeviceUsage,
    ) -> None:
        socket = PortSocket(
            websocket,
            transport,
            usage,
            self._max_queued_bytes(usage),
            lambda num_bytes: self._service.metrics.sent(name, num_bytes),
            self._service.precedence,
        )
        connection = self._connection(name, socket, usage, port_socket.FRAME_SECONDS)
        gated = gated_connection_of(transport)
        if gated is None:
            raise ConnectionResetError("the connection ended before its answer")
        gated.on_bytes = connection.receive_bytes
        with self._counted(connection, name):
            await websocket.prepare(request)
            await connection.run()

    async def _serve_behind(
        self,
        door: KeptDoor,
        request: web.Request,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
        name: str,
        usage: DeviceUsage,
    ) -> None:
        def queued(num_bytes: int) -> None:
            usage.num_queued_bytes += num_bytes

        accounts = Accounts(lambda num: self._service.metrics.sent(name, num), queued)
        most = self._max_queued_bytes(usage), MAX_FRAME_BYTES
        with door.socket(self._heartbeat_seconds, FAREWELL_SECONDS, *most, accounts) as socket:
            connection = self._connection(name, socket, usage, door_socket.FRAME_SECONDS)
            with self._counted(connection, name):
                await websocket.prepare(request)
                await door.hand_over(socket, transport)
                await connection.run()

    def _connection(
        self, name: str, socket: BoardSocket, usage: DeviceUsage, frame_seconds: float
    ) -> DeviceConnection:
        return DeviceConnection(
            socket,
            self._service.device(name),
            self._service,
            usage,
            self._shares,
            self._drafts_changed,
            frame_seconds=frame_seconds,
            keeps_texts=self._keeps_texts,
        )

    @contextmanager
    def _counted(self, connection: DeviceConnection, name: str) -> Iterator[None]:
        self.connections[connection] = name
        try:
            yield
        finally:
            del self.connections[connection]

    def _max_queued_bytes(self, usage: DeviceUsage) -> int:
        return usage.limits.queued_bytes(MAX_ID_BYTES * self._service.limits.context_tokens)
