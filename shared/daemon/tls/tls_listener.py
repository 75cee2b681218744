"""Taking connections at a port that speaks TLS, and agreeing on it before their first request.

The event loop's own servers know a connection only once TLS is agreed on. Here the gate counts and
bounds it from the moment in which it is accepted, so a handshake that does not get on is ended like
a request that does not come.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from shared.daemon.connection_gate import ConnectionGate, GatedConnection
from shared.daemon.peer_text import one_line

logger = logging.getLogger(__name__)

# Two round trips, and 0.5 ms of a core for P-256 (2 cores, 2026-11).
HANDSHAKE_SECONDS = 10.0
# How long a client may take to answer the end.
GOODBYE_SECONDS = 2.0
# Until a program that has too many files open tries to accept another connection.
_PAUSE_SECONDS = 1.0


class TlsListener:
    """All listening sockets of one port."""

    def __init__(self, gate: ConnectionGate, context: ssl.SSLContext) -> None:
        self.context = context  # of the next handshakes; may be replaced at any time
        self._gate = gate
        self._sockets: Sequence[socket.socket] = ()
        self._accepting: list[asyncio.Task[NoReturn]] = []
        self._handshakes: set[asyncio.Task[None]] = set()

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Take connections to these sockets, which `close` closes."""
        self._sockets = sockets
        for listening in sockets:
            listening.setblocking(False)
            self._accepting.append(asyncio.create_task(self._accept(listening), name="accept TLS"))

    def close(self) -> None:
        """Take no more connections."""
        for task in self._accepting:
            task.cancel()
            task.add_done_callback(lambda _: self._close_sockets())

    async def stop(self) -> None:
        """Break off handshakes that are going on; `close` came before."""
        tasks = (*self._accepting, *self._handshakes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _close_sockets(self) -> None:
        for listening in self._sockets:
            listening.close()

    async def _accept(self, listening: socket.socket) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:
                logger.error("cannot accept connections: %s", error.strerror)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            connection = self._gate()
            if connection.arrive(_InPlainText(accepted)):
                handshake = loop.create_task(self._agree(connection, accepted), name="handshake")
                self._handshakes.add(handshake)
                handshake.add_done_callback(self._handshakes.discard)
            else:
                accepted.close()

    async def _agree(self, connection: GatedConnection, accepted: socket.socket) -> None:
        factory: Any = lambda: connection  # noqa: E731 - a protocol without asyncio's base class
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                factory,
                accepted,
                ssl=self.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=GOODBYE_SECONDS,
            )
        except OSError as error:  # of TLS, too: a stranger's doing, so no line of the log
            logger.debug("no TLS with %s: %s", connection.address, one_line(error))
            connection.has_spoken = connection.has_spoken or isinstance(error, ssl.SSLError)
        finally:
            if not connection.has_begun:
                connection.connection_lost(None)


class _InPlainText:
    """A connection without TLS yet, as far as the gate wants to know."""

    def __init__(self, accepted: socket.socket) -> None:
        self._accepted = accepted

    def abort(self) -> None:
        """End it; the handshake notices."""
        with suppress(OSError):
            self._accepted.shutdown(socket.SHUT_RDWR)

    close = abort

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name != "peername":
            return default
        try:
            return self._accepted.getpeername()
        except OSError:  # gone already
            return default
