"""The verifier's port: boards come in over one websocket each, people look at health and metrics.

Shutdown order: no new streams or connections, finish the round in hand, say GoingAway, close.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Mapping

from aiohttp import web

from shared.messages import MAX_MESSAGE_BYTES
from verifier.device_connection import DeviceConnection
from verifier.service import VerifierService
from verifier.tokens import device_of

logger = logging.getLogger(__name__)

DEVICE_PATH = "/v1/device"
# Told to boards when the verifier stops; a restart with a loaded page cache takes about as long.
RETRY_AFTER_SECONDS = 2.0
# How long boards may take to read the GoingAway before their sockets are closed.
FAREWELL_SECONDS = 0.2


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
        self._connections: set[DeviceConnection] = set()
        self._runner: web.AppRunner | None = None
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
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=1024)
        await site.start()
        self._rounds = asyncio.create_task(self._service.run(), name="rounds")
        addresses = self._runner.addresses
        return int(addresses[0][1])

    async def wait(self) -> None:
        """Return only with the exception that ended the engine loop."""
        assert self._rounds is not None
        await asyncio.shield(self._rounds)

    async def stop(self) -> None:
        """Say goodbye to every board and close; safe to call after a failed start."""
        for connection in list(self._connections):
            connection.going_away(RETRY_AFTER_SECONDS)
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.wait([self._rounds])
        if self._connections:
            await asyncio.sleep(FAREWELL_SECONDS)
        for connection in list(self._connections):
            connection.close()
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
            raise web.HTTPUnauthorized(text="metrics need a device's token from another host\n")
        return web.Response(
            body=self._service.metrics.page(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _device(self, request: web.Request) -> web.StreamResponse:
        name = self._authenticate(request)
        if name is None:
            self._service.metrics.rejected("token")
            raise web.HTTPUnauthorized(text="this verifier does not know the token\n")
        if len(self._connections) >= self._max_connections:
            self._service.metrics.rejected("limit")
            raise web.HTTPServiceUnavailable(
                text=f"{self._max_connections} connections are open already\n",
                headers={"Retry-After": "5"},
            )
        socket = web.WebSocketResponse(
            compress=False, max_msg_size=MAX_MESSAGE_BYTES, heartbeat=self._heartbeat_seconds
        )
        await socket.prepare(request)
        connection = DeviceConnection(socket, self._service.device(name), self._service)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
        return socket

    def _authenticate(self, request: web.Request) -> str | None:
        """The device that the bearer token belongs to."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return device_of(token.strip(), self._tokens) if scheme.lower() == "bearer" else None


def _is_loopback(address: str | None) -> bool:
    return address is not None and ipaddress.ip_address(address.split("%")[0]).is_loopback
