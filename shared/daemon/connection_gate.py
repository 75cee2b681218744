"""Between a listening port and an HTTP server: every connection is counted and bounded in time.

An HTTP server waits: for a request that does not come, for an answer that no client reads. A
`ConnectionGate` hands each connection on to the server's own handler and ends those that only take
room. When too many ask for nothing, the oldest one goes, of the address that has most: a flood
closes its own connections, not those of others.

Sans I/O: the event loop calls a `GatedConnection` as its protocol, and `call_later` and `time` are
the loop's. This module must never look into what is said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from shared.daemon.log_limit import LogLimit

logger = logging.getLogger(__name__)


class Transport(Protocol):
    """What a GatedConnection wants of its connection."""

    def abort(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> None: ...


class GateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much room there is for those who ask for nothing."""

    max_idle: int  # connections without a request in hand
    idle_seconds: float  # until the whole head of a request is there
    stall_seconds: float  # while the other end reads nothing of what waits for it


class ConnectionGate:
    """The protocol factory of a listening socket."""

    def __init__(
        self,
        make_handler: Callable[[], Any],
        call_later: Callable[[float, Callable[[], None]], Timer],
        time: Callable[[], float],
        limits: GateLimits,
    ) -> None:
        self.call_later = call_later
        self.limits = limits
        self.num_in_hand = 0  # connections whose request is being answered
        self.num_sent_away = 0  # connections that made room for others, since the start
        self._make_handler = make_handler
        self._time = time
        self._idle: dict[str, dict[GatedConnection, None]] = {}  # by address, the oldest first
        self._num_idle = 0
        self._log_limit = LogLimit()

    def __call__(self) -> GatedConnection:
        """The protocol of a connection that was accepted."""
        return GatedConnection(self, self._make_handler())

    @property
    def num_idle(self) -> int:
        """Connections without a request in hand."""
        return self._num_idle

    def entered(self, connection: GatedConnection) -> None:
        """A connection has no request in hand; another one may have to go for it."""
        self._idle.setdefault(connection.address, {})[connection] = None
        self._num_idle += 1
        if self._num_idle > self.limits.max_idle:
            crowd = max(self._idle.values(), key=len)
            self._send_away(next(iter(crowd)))

    def left(self, connection: GatedConnection) -> None:
        """A connection has a request in hand, or is gone."""
        crowd = self._idle[connection.address]
        del crowd[connection]
        if not crowd:
            del self._idle[connection.address]
        self._num_idle -= 1

    def _send_away(self, connection: GatedConnection) -> None:
        self.num_sent_away += 1
        if self._log_limit.is_due(self._time()):
            logger.warning(
                "more than %d connections ask for nothing; the oldest of %s makes room%s",
                self.limits.max_idle,
                connection.address,
                self._log_limit.ending(),
            )
        connection.abort()


class GatedConnection:
    """One connection: its handler, and what bounds its time."""

    __slots__ = (
        "_gate",
        "_handler",
        "_idle_timer",
        "_stall_timer",
        "_transport",
        "address",
        "is_deaf",
        "on_bytes",
    )

    def __init__(self, gate: ConnectionGate, handler: Any) -> None:
        self.address = ""
        self.is_deaf = False  # what comes is thrown away
        self.on_bytes: Callable[[int], None] | None = None  # told how much has come
        self._gate = gate
        self._handler = handler
        self._transport: Transport | None = None
        self._idle_timer: Timer | None = None
        self._stall_timer: Timer | None = None

    @property
    def gate(self) -> ConnectionGate:
        """Where it came in."""
        return self._gate

    def abort(self) -> None:
        """End the connection, whatever waits to be read."""
        self._leave_idle()
        self.is_deaf = True
        if self._transport is not None:
            self._transport.abort()

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """While its request is being answered it may take as long as the answer does."""
        self._leave_idle()
        self._gate.num_in_hand += 1
        try:
            yield
        finally:
            self._gate.num_in_hand -= 1
            if self._transport is not None:
                self._enter_idle()

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._handler.connection_made(transport)
        self._enter_idle()

    def data_received(self, data: bytes) -> None:
        if self.on_bytes is not None:
            self.on_bytes(len(data))
        if not self.is_deaf:
            self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        keeps_open: bool | None = self._handler.eof_received()
        return keeps_open

    def pause_writing(self) -> None:
        limit = self._gate.limits.stall_seconds
        self._stall_timer = self._gate.call_later(limit, self.abort)
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._end_stall()
        self._handler.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._leave_idle()
        self._end_stall()
        self._transport = self.on_bytes = None
        self._handler.connection_lost(error)

    def _enter_idle(self) -> None:
        limit = self._gate.limits.idle_seconds
        self._idle_timer = self._gate.call_later(limit, self.abort)
        self._gate.entered(self)

    def _leave_idle(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
            self._gate.left(self)

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def gated_connection_of(transport: Any) -> GatedConnection | None:
    """Who is at the other end of a request's transport; None when it is gone."""
    protocol = transport.get_protocol() if transport is not None else None
    return protocol if isinstance(protocol, GatedConnection) else None
