"""Between a listening port and an HTTP server: every connection is counted and bounded in time.

An HTTP server waits: for a request that does not come, for an answer that no client reads. A
`ConnectionGate` hands each connection on to the server's own handler and ends those that only take
room. When too many ask for nothing, the oldest one goes, of the address that has most: a flood
closes its own connections, not those of others. Those who do not show who they are wait their turn
(`shared.daemon.strangers`).

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
from shared.daemon.strangers import NOISE_COST, SILENCE_COST, WRONG_TOKEN_COST, Strangers

logger = logging.getLogger(__name__)

# For a request that has just come to be in hand, after which nothing comes any more.
HALF_CLOSED_SECONDS = 1.0


class Transport(Protocol):
    """What a GatedConnection wants of its connection."""

    def abort(self) -> None: ...

    def close(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> None: ...


class GateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much room there is for those who ask for nothing."""

    max_idle: int  # connections without a request in hand
    idle_seconds: float  # until the whole head of a request is there
    stall_seconds: float  # while the other end reads nothing of what waits for it
    answers_half_closed: bool = False  # who says no more may wait for an answer, not be gone


class ConnectionGate:
    """The protocol factory of a listening socket."""

    def __init__(
        self,
        make_handler: Callable[[], Any],
        call_later: Callable[[float, Callable[[], None]], Timer],
        time: Callable[[], float],
        limits: GateLimits,
        strangers: Strangers | None = None,
    ) -> None:
        self.call_later = call_later
        self.strangers = strangers  # None: they may ask for as much as they like
        self.time = time
        self.limits = limits
        self.num_in_hand = 0  # connections whose request is being answered
        self.num_sent_away = 0  # connections that made room for others, since the start
        self.waiting: dict[GatedConnection, None] = {}  # for their turn
        self.make_handler = make_handler
        self._idle: dict[str, dict[GatedConnection, None]] = {}  # by address, the oldest first
        self._num_idle = 0
        self._log_limit = LogLimit()

    def __call__(self) -> GatedConnection:
        """The protocol of a connection that was accepted."""
        return GatedConnection(self)

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

    def end_waits(self) -> None:
        """Let all strangers have their answers now: the server stops."""
        for connection in tuple(self.waiting):
            connection.end_wait()

    def _send_away(self, connection: GatedConnection) -> None:
        self.num_sent_away += 1
        if self._log_limit.is_due(self.time()):
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
        "_take_turn",
        "_transport",
        "_turn_timer",
        "address",
        "has_asked",
        "has_spoken",
        "is_deaf",
        "is_half_closed",
        "on_bytes",
        "on_half_close",
        "request_cost",
        "stays_half_closed",
    )

    def __init__(self, gate: ConnectionGate) -> None:
        self.address = ""
        self.request_cost = 0.0  # of the one in hand, see `take_turn`
        self.has_spoken = False
        self.has_asked = False  # at least one request came whole
        self.is_deaf = False  # what comes is thrown away
        self.on_bytes: Callable[[int], None] | None = None  # told how much has come
        self.stays_half_closed = gate.limits.answers_half_closed  # until its answer is out
        self.is_half_closed = False  # the other end says no more
        self.on_half_close: Callable[[], None] | None = None
        self._gate = gate
        self._handler: Any = None
        self._transport: Transport | None = None
        self._idle_timer: Timer | None = None
        self._stall_timer: Timer | None = None
        self._turn_timer: Timer | None = None
        self._take_turn: Callable[[], None] | None = None

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
        self.has_asked = True
        self._gate.num_in_hand += 1
        try:
            yield
        finally:
            self._gate.num_in_hand -= 1
            if self._transport is not None:
                self._enter_idle()

    def welcome(self) -> None:
        """The request in hand shows who asks: it costs nothing."""
        self.request_cost = 0.0
        if self._gate.strangers is not None:
            self._gate.strangers.welcome(self.address)

    def mistrust(self) -> None:
        """The request in hand shows a token that is wrong."""
        self.request_cost = WRONG_TOKEN_COST

    def seconds_until_turn(self) -> float | None:
        """Account for the request in hand; how long its answer waits, None: it gets none."""
        strangers, cost = self._gate.strangers, self.request_cost
        if strangers is None or not cost:
            return 0.0
        now = self._gate.time()
        strangers.charge(self.address, cost, now)
        if strangers.is_too_much(self.address, now):
            return None
        return strangers.seconds_until_turn(self.address, now)

    def call_at_turn(self, seconds: float, take: Callable[[], None]) -> None:
        """Call it after so long, or as soon as the connection or the server ends."""
        self._take_turn = take
        self._turn_timer = self._gate.call_later(seconds, self.end_wait)
        self._gate.waiting[self] = None

    def end_wait(self) -> None:
        """Its turn has come."""
        take, self._take_turn = self._take_turn, None
        if take is not None and self._turn_timer is not None:
            self._turn_timer.cancel()
            del self._gate.waiting[self]
            take()

    @property
    def has_begun(self) -> bool:
        """Whether its handler has it, or had it."""
        return self._handler is not None

    def arrive(self, transport: Transport) -> bool:
        """A connection was accepted, perhaps one that has to agree on TLS; False: not let in."""
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        strangers = self._gate.strangers
        if strangers is not None and strangers.is_too_much(self.address, self._gate.time()):
            self.is_deaf = True
            transport.abort()
            return False
        self._transport = transport
        self._enter_idle()
        return True

    def connection_made(self, transport: Transport) -> None:
        if self._transport is None and not self.arrive(transport):
            return
        self._transport = transport
        self._handler = self._gate.make_handler()
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self.on_bytes is not None:
            self.on_bytes(len(data))
        if self.is_deaf:
            return
        self.has_spoken = True
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        if self._handler is None:
            return None
        if self.stays_half_closed:
            self.is_half_closed = True
            self._handler.close()  # after the request in hand
            self._gate.call_later(HALF_CLOSED_SECONDS, self._end_if_idle)
            if self.on_half_close is not None:
                self.on_half_close()
            return True
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
        self.end_wait()
        has_arrived = self._transport is not None
        self._transport = self.on_bytes = None
        if has_arrived:
            self._charge_for_nothing()
        if self._handler is not None:
            self._handler.connection_lost(error)

    def _charge_for_nothing(self) -> None:
        """Account for a connection that came to no request."""
        strangers = self._gate.strangers
        if strangers is not None and not self.has_asked:
            cost = NOISE_COST if self.has_spoken else SILENCE_COST
            strangers.charge(self.address, cost, self._gate.time())

    def _end_if_idle(self) -> None:
        if self._idle_timer is not None and self._transport is not None:
            self._transport.close()

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
