"""The verifier's side of a websocket that a door holds.

This module must never know what a message means.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context

import msgspec

from verifier.doors.board_socket import Frame, Listener, Overrun
from verifier.doors.traffic import (
    CREDIT_BYTES,
    Arrival,
    Entry,
    FromDoor,
    ToDoor,
    cost_of,
)

# What a frame costs the event loop beside what is measured: its part of a batch.
FRAME_SECONDS = 3e-6
_FRAMES = {int(frame): frame for frame in Frame}


class Accounts(msgspec.Struct, frozen=True):
    """Who is told of bytes."""

    sent: Callable[[int], None]  # by message
    queued: Callable[[int], None]  # how many more of them wait for the board


class DoorSocket:
    """Implements `BoardSocket`: what is put goes to the door in batches, what comes is at once."""

    def __init__(self, arrival: Arrival, tell: Callable[[Entry], None], accounts: Accounts) -> None:
        """`tell` the door an entry."""
        self.arrival = arrival
        self._number = arrival.number
        self._tell = tell
        self._accounts = accounts
        self._loop = asyncio.get_running_loop()
        self._listener: Listener | None = None
        self._context: Context | None = None
        self._aside: deque[tuple[int, int, bytes]] = deque()  # that have to wait
        self._is_waiting = False
        self._taken = 0  # credit that the door does not have back
        self._num_queued_bytes = 0
        self._is_ended = False  # by the verifier
        self._read: asyncio.Future[None] = self._loop.create_future()
        self._gone = asyncio.Event()  # there is no connection, or none any more

    @property
    def is_ended(self) -> bool:
        """Whether the verifier wants nothing more of it."""
        return self._is_ended

    def put(self, packed: bytes) -> None:
        self._tell((self._number, ToDoor.MESSAGE, 0, packed))
        self._accounts.sent(len(packed))

    def put_parts(self, parts: Sequence[bytes]) -> None:
        for number, part in enumerate(parts, start=1):
            kind = ToDoor.LAST_PART if number == len(parts) else ToDoor.PART
            self._tell((self._number, kind, 0, part))
            self._accounts.sent(len(part))

    def end(self) -> None:
        self._is_ended = True
        self._tell((self._number, ToDoor.END, 0, b""))
        self._stop_reading()

    def abort(self) -> None:
        self._is_ended = True
        self._tell((self._number, ToDoor.ABORT, 0, b""))
        self._stop_reading()

    def deafen(self) -> None:
        self._tell((self._number, ToDoor.DEAFEN, 0, b""))

    async def read(self, listener: Listener) -> None:
        self._listener, self._context = listener, copy_context()
        self._go_on()
        await self._read

    async def farewell(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        if not self._gone.is_set():
            self.abort()
        self._count_queued(0)

    def hear(self, kind: int, amount: int, content: bytes) -> None:
        """The door said something about this websocket."""
        if kind == FromDoor.QUEUED:
            self._count_queued(amount)
        elif self._aside or self._listener is None:
            self._aside.append((kind, amount, content))
        else:
            self._hear(kind, amount, content)

    def lose(self) -> None:
        """The door is gone, and the connection with it."""
        self._gone.set()
        self._stop_reading()
        self._count_queued(0)

    def _hear(self, kind: int, amount: int, content: bytes) -> None:
        if kind == FromDoor.ENDED:
            self._gone.set()
            self._stop_reading()
        listener, context = self._listener, self._context
        if self._read.done() or listener is None or context is None:
            return
        if kind <= FromDoor.BROKEN and (seconds := listener.seconds_to_wait()):
            self._wait(seconds, kind, amount, content)
            return
        try:
            context.run(self._take, listener, kind, amount, content)
        except Exception as error:  # noqa: BLE001 - raised by `read`
            if not self._read.done():
                self._read.set_exception(error)
        if listener.is_over:
            self._stop_reading()

    def _take(self, listener: Listener, kind: int, amount: int, content: bytes) -> None:
        if amount:
            listener.receive_bytes(amount)
        if kind == FromDoor.OVERRUN:
            raise Overrun(content.decode(errors="replace"))
        if kind > FromDoor.BROKEN or listener.is_over:
            return
        listener.take(_FRAMES[kind], content)
        self._taken += cost_of(content)
        if 2 * self._taken >= CREDIT_BYTES:
            self._tell((self._number, ToDoor.CREDIT, self._taken, b""))
            self._taken = 0

    def _wait(self, seconds: float, kind: int, amount: int, content: bytes) -> None:
        self._aside.appendleft((kind, amount, content))
        self._is_waiting = True
        self._loop.call_later(seconds, self._wait_no_more)

    def _wait_no_more(self) -> None:
        self._is_waiting = False
        self._go_on()

    def _go_on(self) -> None:
        """One frame for each turn of the event loop, as for all others."""
        if self._aside and not self._is_waiting:
            self._hear(*self._aside.popleft())
            self._loop.call_soon(self._go_on)

    def _stop_reading(self) -> None:
        if any(kind == FromDoor.ENDED for kind, _, _ in self._aside):
            self._gone.set()
        self._aside.clear()
        if not self._read.done():
            self._read.set_result(None)

    def _count_queued(self, num_bytes: int) -> None:
        self._accounts.queued(num_bytes - self._num_queued_bytes)
        self._num_queued_bytes = num_bytes
