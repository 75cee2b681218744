"""A port of a program: listening sockets, and an HTTP application behind a gate.

Sockets are opened apart from serving on them. A target takes seconds to load: boards that come back
meanwhile wait in the kernel's queue and are served in the moment that the target is there, and an
address that is in use is found out at once. This module must never know what is served.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from shared.daemon.connection_gate import (
    ConnectionGate,
    GatedConnection,
    GateLimits,
    gated_connection_of,
)
from shared.daemon.http_faults import gives_an_address, is_our_error, refuses_nonsense
from shared.daemon.strangers import StrangerLimits, Strangers
from shared.daemon.tls.tls_listener import TlsListener
from shared.errors import ConfigError

# As many boards as come back at once; the kernel may hold fewer (net.core.somaxconn).
BACKLOG = 1024
# Until the whole head of a request is there, and between two of them.
REQUEST_SECONDS = 15.0
# While the other end reads nothing of what waits for it.
STALL_SECONDS = 30.0
# The first file descriptor behind the standard ones.
FIRST_INHERITED = 3
# By the fault of an address that a program wants to listen on.
_WAYS_OUT = {
    errno.EADDRINUSE: "`ss -ltnp` shows which program has it",
    errno.EADDRNOTAVAIL: "`ip address` shows those that this machine has",
    errno.EACCES: "ports below 1024 are for root alone",
}
# Asked by what watches over the program, and answered however much there is to do.
HEALTH_PATH = "/healthz"


def listen(host: str, port: int) -> tuple[socket.socket, ...]:
    """Listen on every address of the host (""; all of them), on a free port for 0.

    Raises:
        OSError: the host is not known, or an address cannot be listened on.
    """
    taken = take_port(host, port)
    start_listening(taken)
    return taken


def take_port(host: str, port: int) -> tuple[socket.socket, ...]:
    """Hold every address of the host, as `listen` does, before there is anything to serve.

    Clients are refused until `start_listening`; a program that listens there already is found out.

    Raises:
        OSError: the host is not known, or an address cannot be had.
    """
    kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
    taken: list[socket.socket] = []
    try:
        addresses = socket.getaddrinfo(host or None, port, type=kind, flags=flags)
        for family, _, _, _, address in dict.fromkeys(addresses):
            taken.append(socket.socket(family, kind))
            taken[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # IPv4 has a socket of its own
                taken[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken[-1].bind(address)
    except OSError as error:
        for opened in taken:
            opened.close()
        raise _told(error, host, port) from None
    return tuple(taken)


def start_listening(taken: Sequence[socket.socket]) -> None:
    """Let clients in at addresses that `take_port` holds.

    Raises:
        OSError: another program that held one as well listens there by now; all are closed.
    """
    for opened in taken:
        try:
            opened.listen(BACKLOG)
        except OSError as error:
            host, port = opened.getsockname()[:2]
            for other in taken:
                other.close()
            raise _told(error, host, port) from None


def _told(error: OSError, host: str, port: int) -> OSError:
    """The same, with the address and the way out."""
    number = error.errno or 0
    if isinstance(error, socket.gaierror):
        return socket.gaierror(number, f"host {host}: {error.strerror}: no address has this name")
    address = f"{f'[{host}]' if ':' in host else host or 'every address'}, port {port}"
    way_out = _WAYS_OUT.get(number)
    return OSError(number, f"{os.strerror(number)}: {address}{f'; {way_out}' if way_out else ''}")


def inherited_sockets(environment: Mapping[str, str]) -> tuple[socket.socket, ...]:
    """The listening sockets that a service manager opened for this process (sd_listen_fds(3)).

    Raises:
        ConfigError: one of them is no socket.
    """
    num_sockets = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not num_sockets.isdecimal():
        return ()
    last = FIRST_INHERITED + int(num_sockets)
    try:
        inherited = tuple(socket.socket(fileno=number) for number in range(FIRST_INHERITED, last))
    except OSError:
        sentence = "not all of them are sockets; goodspeed-verifier.socket hands one over"
        raise ConfigError((f"environment LISTEN_FDS = {num_sockets}: {sentence}",)) from None
    for listening in inherited:
        listening.set_inheritable(False)
    return inherited


class HttpServer:
    """An application that is being served; `start_http_server` makes it."""

    def __init__(
        self,
        runner: web.AppRunner,
        gate: ConnectionGate,
        listeners: Sequence[asyncio.Server],
        tls_listener: TlsListener | None,
    ) -> None:
        self.gate = gate
        self._runner = runner
        self._listeners = listeners  # in plain text
        self._tls_listener = tls_listener

    def stop_listening(self) -> None:
        """Take no more connections; those that are open stay."""
        for listener in self._listeners:
            listener.close()
        if self._tls_listener is not None:
            self._tls_listener.close()
        self.gate.end_waits()

    def replace_tls(self, context: ssl.SSLContext) -> None:
        """Agree on TLS by this context from now on; connections that are open stay."""
        assert self._tls_listener is not None, "a port in plain text stays one"
        self._tls_listener.context = context

    async def stop(self) -> None:
        """Take no more connections, and end those that are open within `shutdown_seconds`."""
        self.stop_listening()
        if self._tls_listener is not None:
            await self._tls_listener.stop()
        await self._runner.cleanup()


async def start_http_server(
    app: web.Application,
    sockets: Sequence[socket.socket],
    *,
    logger: logging.Logger,
    max_idle_connections: int,
    shutdown_seconds: float,
    cancels_handlers: bool = False,
    answers_half_closed: bool = False,
    stranger_limits: StrangerLimits | None = None,
    tls: ssl.SSLContext | None = None,
) -> HttpServer:
    """Serve on listening sockets, which `HttpServer.stop` closes.

    `app` needs the middleware `in_hand`; bodies come as they are, compressed or not. More
    connections than `max_idle_connections` without a request make room for each other.
    `cancels_handlers`: a client that leaves ends its request. `answers_half_closed`: one that says
    no more has its answer, and handlers find out whether it has left. `stranger_limits`: what
    connections may ask for on which no handler said `welcome`. `tls`: None is plain text.
    """
    logger.addFilter(is_our_error)
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        logger=logger,
        handler_cancellation=cancels_handlers,
        keepalive_timeout=REQUEST_SECONDS,
        shutdown_timeout=shutdown_seconds,
    )
    await runner.setup()
    assert runner.server is not None
    runner.server.request_factory = gives_an_address(runner.server.request_factory)
    runner.server.request_handler = refuses_nonsense(runner.server.request_handler)
    limits = GateLimits(
        max_idle=max_idle_connections,
        idle_seconds=REQUEST_SECONDS + 1,  # the HTTP server's own limit comes first, and says so
        stall_seconds=STALL_SECONDS,
        answers_half_closed=answers_half_closed,
    )
    loop = asyncio.get_running_loop()
    strangers = None if stranger_limits is None else Strangers(stranger_limits)
    gate = ConnectionGate(runner.server, loop.call_later, loop.time, limits, strangers)
    factory = cast(Any, gate)  # a protocol factory without a base class of asyncio's
    listeners: list[asyncio.Server] = []
    tls_listener = None if tls is None else TlsListener(gate, tls)
    server = HttpServer(runner, gate, listeners, tls_listener)
    if tls_listener is not None:
        tls_listener.start(sockets)
        return server
    try:
        for listening in sockets:
            listeners.append(await loop.create_server(factory, sock=listening, backlog=BACKLOG))
    except BaseException:
        await server.stop()
        raise
    return server


def in_hand(max_requests: int | None = None) -> Middleware:
    """The middleware that tells the gate of a connection that it asks for something.

    Beyond `max_requests` at once all are sent away but those who ask for the program's health.
    """

    @web.middleware
    async def hold(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = gated_connection_of(request.transport)
        if connection is None:
            raise ConnectionResetError("the connection ended before its answer")
        is_full = max_requests is not None and connection.gate.num_in_hand >= max_requests
        if is_full and request.path != HEALTH_PATH:
            raise web.HTTPServiceUnavailable(
                text=f"{max_requests} requests are being answered already",
                headers={hdrs.RETRY_AFTER: "1", hdrs.CONNECTION: "close"},
            )
        connection.request_cost = 1.0  # unless it shows who asks
        failure = None
        with connection.in_hand():
            try:
                response = await handler(request)
            except web.HTTPException as error:
                failure = error
        await _take_turn(connection)
        if failure is not None:
            raise failure
        return response

    return hold


async def _take_turn(connection: GatedConnection) -> None:
    """Let a stranger wait for the answer, whatever it is, with no more claim to stay than others.

    Raises:
        HTTPTooManyRequests: the stranger has asked for too much.
    """
    seconds = connection.seconds_until_turn()
    if seconds is None:
        raise web.HTTPTooManyRequests(
            text="too many requests without a token that is right\n",
            headers={hdrs.RETRY_AFTER: "10", hdrs.CONNECTION: "close"},
        )
    if seconds:
        turn = asyncio.get_running_loop().create_future()
        connection.call_at_turn(seconds, lambda: None if turn.done() else turn.set_result(None))
        await turn


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """What a request shows as its token (RFC 6750); None: no bearer token."""
    scheme, _, token = headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
