"""The verifier's port: boards come in over one websocket each, people look at health and metrics.

Shutdown order: no new connections or streams, say GoingAway, finish the round in hand, close.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Mapping

from aiohttp import web

from shared.messages import MAX_MESSAGE_BYTES, ErrorCode
from verifier.device_connection import FAREWELL_SECONDS, DeviceConnection
from verifier.service import VerifierService
from verifier.tokens import device_of

logger = logging.getLogger(__name__)

DEVICE_PATH = "/v1/device"
# Told to boards when the verifier stops; a restart with a loaded page cache takes about as long.
RETRY_AFTER_SECONDS = 2.0
# Told to boards that found every place taken.
FULL_RETRY_AFTER_SECONDS = 5
# A board needs one; a few more may still be half open when it comes back.
MAX_CONNECTIONS_PER_DEVICE = 4
# A message that is somewhat too long is answered by a sentence, a longer one by its close code.
MAX_FRAME_BYTES = 2 * MAX_MESSAGE_BYTES
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class VerifierServer:
    """Serves one VerifierService on one port."""

    def __init__(
        self,
        service: VerifierService,
        tokens: Mapping[str, str],
        *,
        heartbeat_seconds: float,
        max_connections: int,
    ) -> None:
        self._service = service
        self._tokens = tokens
        self._heartbeat_seconds = heartbeat_seconds
        self._max_connections = max_connections
        self._connections: dict[DeviceConnection, str] = {}  # with the device's name
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._rounds: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen and start rounds; the port (a free one for 0).

        Raises:
            OSError: the address cannot be listened on.
        """
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get(DEVICE_PATH, self._device)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=FAREWELL_SECONDS
        )
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, host, port, backlog=1024)
        await self._site.start()
        self._rounds = asyncio.create_task(self._service.run(), name="rounds")
        addresses = self._runner.addresses
        return int(addresses[0][1])

    async def wait(self) -> None:
        """Return only with the exception that ended the engine loop."""
        assert self._rounds is not None
        await asyncio.shield(self._rounds)

    async def stop(self) -> None:
        """Say goodbye to every board and close; safe to call after a failed start."""
        if self._rounds is not None and self._site is not None:
            await self._site.stop()
            self._site = None
            for connection in self._connections:
                connection.going_away(RETRY_AFTER_SECONDS)
            self._service.stop()
            await asyncio.wait([self._rounds])
        for connection in self._connections:
            connection.close()  # each gives its board FAREWELL_SECONDS
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        planner = self._service.planner
        return web.json_response(
            {
                "status": "ok",
                "target_model": self._service.target.model_name,
                "devices": len(self._connections),
                "streams": len(planner.streams),
            }
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        if not _is_loopback(request.remote) and self._authenticate(request) is None:
            raise web.HTTPUnauthorized(
                text="metrics need a device's token from another host\n", headers=_CHALLENGE
            )
        return web.Response(
            body=self._service.metrics.page(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _device(self, request: web.Request) -> web.StreamResponse:
        name = self._authenticate(request)
        if name is None:
            self._service.metrics.rejected("token")
            raise web.HTTPUnauthorized(
                text="this verifier does not know the token\n", headers=_CHALLENGE
            )
        self._check_room(name)
        socket = web.WebSocketResponse(
            compress=False,
            max_msg_size=MAX_FRAME_BYTES,
            heartbeat=self._heartbeat_seconds,
            timeout=FAREWELL_SECONDS,
        )
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the connection ended before the handshake")
        connection = DeviceConnection(socket, transport, self._service.device(name), self._service)
        self._connections[connection] = name
        try:
            await socket.prepare(request)
            await connection.run()
        finally:
            del self._connections[connection]
        return socket

    def _check_room(self, name: str) -> None:
        num_of_device = sum(device == name for device in self._connections.values())
        if num_of_device >= MAX_CONNECTIONS_PER_DEVICE:
            sentence = f"device {name} has {num_of_device} connections open already\n"
        elif len(self._connections) >= self._max_connections:
            sentence = f"{self._max_connections} connections are open already\n"
        else:
            return
        self._service.metrics.rejected(ErrorCode.LIMIT)
        raise web.HTTPServiceUnavailable(
            text=sentence, headers={"Retry-After": str(FULL_RETRY_AFTER_SECONDS)}
        )

    def _authenticate(self, request: web.Request) -> str | None:
        """The device that the bearer token belongs to."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return device_of(token.strip(), self._tokens) if scheme.lower() == "bearer" else None


def _is_loopback(address: str | None) -> bool:
    return address is not None and ipaddress.ip_address(address.split("%")[0]).is_loopback
