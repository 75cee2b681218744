"""The verifier's port before there is a target: it says that it is loading, and how far it is.

A board's first request is answered at once, so that its clients know; the next ones are held until
the target is there, so that boards are back in that moment. This module must never know a model.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence

from aiohttp import hdrs, web

from shared.daemon.connection_gate import gated_connection_of
from shared.daemon.http_server import (
    HEALTH_PATH,
    HttpServer,
    bearer_token,
    in_hand,
    start_http_server,
)
from shared.daemon.strangers import StrangerLimits
from shared.protocol.token_question import TOKENS_PATH
from shared.protocol.transport import DEVICE_PATH, LOADING_HEADER, VOCABULARY_PATH
from verifier.server.device_tokens import device_of
from verifier.web.assets import PAGE_PATH, STATE_PATH

# Less than boards wait for an answer.
HOLD_SECONDS = 5.0
_RETRY_AFTER: Mapping[str, str] = {hdrs.RETRY_AFTER: "1"}


class LoadingPort:
    """Answers for a verifier that is not there yet."""

    def __init__(
        self,
        tokens: Mapping[str, str],
        percent: Callable[[], int | None],
        *,
        max_connections: int,
        stranger_limits: StrangerLimits | None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`percent`: how much is loaded, None: that is not known."""
        self._tokens = tokens
        self._percent = percent
        self._max_connections = max_connections
        self._stranger_limits = stranger_limits
        self._tls = tls
        self._told: set[str] = set()  # devices
        self._held: set[str] = set()
        self._is_over = asyncio.Event()
        self._http: HttpServer | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on listening sockets, which stay open for the verifier itself."""
        app = web.Application(client_max_size=1024, middlewares=[in_hand()])
        app.router.add_get(HEALTH_PATH, self._health)
        for path in ("/metrics", PAGE_PATH, STATE_PATH):
            app.router.add_get(path, self._metrics)
        app.router.add_get(VOCABULARY_PATH, self._device)
        app.router.add_post(TOKENS_PATH, self._device)
        app.router.add_get(DEVICE_PATH, self._device)
        self._http = await start_http_server(
            app,
            [listening.dup() for listening in sockets],
            logger=logging.getLogger("verifier.http"),
            max_idle_connections=self._max_connections,
            shutdown_seconds=1.0,
            stranger_limits=self._stranger_limits,
            tls=self._tls,
        )

    async def stop(self) -> None:
        """Take no more connections, and send those away that are held: they come again."""
        self._is_over.set()
        if self._http is not None:
            await self._http.stop()

    async def _health(self, request: web.Request) -> web.Response:
        """Known to all: it tells of no device and no model."""
        health: dict[str, object] = {"status": "loading"}
        if self._percent() is not None:
            health["percent"] = self._percent()
        return web.json_response(health, status=503, headers={**_RETRY_AFTER, **self._state})

    async def _metrics(self, request: web.Request) -> web.Response:
        return self._loading(_RETRY_AFTER)

    async def _device(self, request: web.Request) -> web.Response:
        connection = gated_connection_of(request.transport)
        token = bearer_token(request.headers)
        device = None if token is None else device_of(token, self._tokens)
        if connection is None or device is None:
            if connection is not None and token is not None:
                connection.mistrust()
            raise web.HTTPUnauthorized(
                text="this verifier does not know the token\n",
                headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
            )
        connection.welcome()
        if device not in self._told:
            self._told.add(device)
            return self._loading()
        if device in self._held:
            return self._loading(_RETRY_AFTER)
        self._held.add(device)
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                await self._is_over.wait()
        except TimeoutError:
            pass
        finally:
            self._held.discard(device)
        return self._loading()

    def _loading(self, headers: Mapping[str, str] | None = None) -> web.Response:
        percent = self._percent()
        progress = "" if percent is None else f", {percent} %"
        return web.Response(
            status=503,
            text=f"the verifier is loading its model{progress}\n",
            headers={**self._state, **(headers or {}), hdrs.CONNECTION: "close"},
        )

    @property
    def _state(self) -> dict[str, str]:
        percent = self._percent()
        return {LOADING_HEADER: "" if percent is None else str(percent)}
