"""A TCP proxy between an agent and a verifier that makes bad networks, the same ones for a seed.

`Weather` says what holds now, for each direction; giving the proxy another one changes it for
living connections, too.  Order is always kept, and bytes are never changed: what a direction has
once swallowed is the last of it, because TCP would never deliver what follows.
By hand: `python -m tests.support.chaos_proxy --help`.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from socket import SO_LINGER, SOL_SOCKET, socket
from types import TracebackType
from typing import Literal, NamedTuple, Self

PIECE_BYTES = 64 * 1024
MAX_IN_FLIGHT_BYTES = 1024 * 1024  # on their way in one direction; then its sender has to wait
CONNECT_SECONDS = 10.0
RATE_STEP_SECONDS = 0.02  # a limited rate flows in steps this long
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Side = Literal["agent", "verifier"]


class Address(NamedTuple):
    """Where to listen (port 0: any free one) or to connect."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Weather:
    """What holds in one direction of every connection; the default is no weather at all."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0  # a random part of it comes on top of the delay
    bytes_per_second: float = math.inf
    piece_bytes: int = PIECE_BYTES  # forwarded at once, at most; a few make a trickle
    is_stalled: bool = False  # nothing flows and nothing is lost
    is_half_open: bool = False  # everything is lost, ends and resets as well
    cut_after_bytes: float = math.inf  # forwarded in this weather; then both sides are reset

    @property
    def step_bytes(self) -> int:
        """What is forwarded at once."""
        return int(max(1, min(self.piece_bytes, self.bytes_per_second * RATE_STEP_SECONDS)))


CALM = Weather()
STALLED = Weather(is_stalled=True)
HALF_OPEN = Weather(is_half_open=True)


class ChaosProxy:
    """Listens, forwards and ends within `async with`; changed from its own event loop only."""

    def __init__(
        self, target: Address, weather: Weather = CALM, *, listen: Address | None = None, seed: int
    ) -> None:
        self.address = listen or Address("127.0.0.1", 0)
        self.num_connections = 0  # made so far
        self._target = target
        self._up = self._down = weather
        self._seed = seed
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._task_group = asyncio.TaskGroup()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"ws://{self.address}"

    @property
    def num_open(self) -> int:
        """Connections that have not ended in both directions."""
        return len(self._connections)

    @property
    def weather(self) -> Weather:
        """The weather of both directions, which must be the same."""
        assert self._up == self._down, "the directions differ: read `up` or `down`"
        return self._up

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self.up = self.down = weather

    @property
    def up(self) -> Weather:
        """From the agent to the verifier."""
        return self._up

    @up.setter
    def up(self, weather: Weather) -> None:
        self._up = weather
        for connection in self._connections:
            connection.up.change(weather)

    @property
    def down(self) -> Weather:
        """From the verifier to the agent."""
        return self._down

    @down.setter
    def down(self, weather: Weather) -> None:
        self._down = weather
        for connection in self._connections:
            connection.down.change(weather)

    def reset(self, only: Side | None = None) -> None:
        """Reset every open connection, as a router that has forgotten them does.

        With `only` the other side hears nothing of it and talks into the void.
        """
        for connection in self._connections:
            connection.reset(only)

    async def __aenter__(self) -> Self:
        await self._task_group.__aenter__()
        self._server = await asyncio.start_server(self._accept, *self.address)
        self.address = Address(self.address.host, self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await self._task_group.__aexit__(kind, error, trace)

    def _accept(self, near: asyncio.StreamReader, agent: asyncio.StreamWriter) -> None:
        task = self._task_group.create_task(self._carry(near, agent), name="chaos-connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, near: asyncio.StreamReader, agent: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                far, verifier = await asyncio.open_connection(*self._target)
        except OSError:  # there is no verifier now
            _reset(agent.transport)
            return
        except asyncio.CancelledError:
            _reset(agent.transport)
            raise
        self.num_connections += 1
        name = f"{self._seed}/{self.num_connections}"
        connection = _Connection(
            up=_Lane(near, verifier, self._up, random.Random(f"{name}/up")),
            down=_Lane(far, agent, self._down, random.Random(f"{name}/down")),
        )
        self._connections.add(connection)
        try:
            await connection.carry()
        finally:
            self._connections.discard(connection)


class _CutError(Exception):
    """Both sides are to be reset."""


class _Ending(Enum):
    END = "the sender will send no more"
    RESET = "the sender's side was reset"


@dataclass(eq=False)
class _Connection:
    """Two lanes; lives as long as one of them."""

    up: _Lane
    down: _Lane

    async def carry(self) -> None:
        try:
            async with asyncio.TaskGroup() as lanes:
                lanes.create_task(self.up.carry(), name="chaos-up")
                lanes.create_task(self.down.carry(), name="chaos-down")
            self.up.writer.close()
            self.down.writer.close()
        except* _CutError:
            pass
        finally:
            self.reset()  # what is not closed by now

    def reset(self, only: Side | None = None) -> None:
        self.up.lose()
        self.down.lose()
        if only != "agent":
            _reset(self.up.writer.transport)
        if only != "verifier":
            _reset(self.down.writer.transport)


class _Lane:
    """One direction of one connection: one task collects what comes in, one delivers it later."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        weather: Weather,
        jitter: random.Random,
    ) -> None:
        self.writer = writer
        self._reader = reader
        self._weather = weather
        self._jitter = jitter
        self._pieces: deque[tuple[float, bytes | _Ending]] = deque()  # and when each is due
        self._num_in_flight_bytes = 0
        self._num_forwarded_bytes = 0  # in this weather
        self._free_at = 0.0  # when the limited rate lets the next step through
        self._is_lost = False
        self._news = asyncio.Event()  # a piece came or went, or the weather changed

    def change(self, weather: Weather) -> None:
        self._weather = weather
        self._num_forwarded_bytes = 0
        self._free_at = 0.0
        self._news.set()

    def lose(self) -> None:
        """Deliver nothing from now on."""
        self._is_lost = True
        self._news.set()

    async def carry(self) -> None:
        """Carry until the sender's end.

        Raises:
            _CutError: a reset came, or the weather cuts here.
        """
        async with asyncio.TaskGroup() as tasks:
            collecting = tasks.create_task(self._collect(), name="chaos-collect")
            await self._deliver()
            collecting.cancel()

    async def _collect(self) -> None:
        loop = asyncio.get_running_loop()
        latest_due = 0.0
        content: bytes | _Ending = b""
        while not isinstance(content, _Ending):
            while self._num_in_flight_bytes >= MAX_IN_FLIGHT_BYTES:
                await self._wait_for_news(math.inf)
            try:
                content = await self._reader.read(PIECE_BYTES) or _Ending.END
            except OSError:  # a reset, or the kernel gave up
                content = _Ending.RESET
            late = self._weather.jitter_seconds * self._jitter.random()
            latest_due = max(latest_due, loop.time() + self._weather.delay_seconds + late)
            self._put(latest_due, content)

    async def _deliver(self) -> None:
        while True:
            while (seconds := self._seconds_to_wait()) > 0:
                await self._wait_for_news(seconds)
            if self._is_cut:
                raise _CutError
            due, content = self._take()
            self._is_lost |= self._weather.is_half_open
            if isinstance(content, bytes):
                if not self._is_lost:
                    await self._forward(due, content)
                continue
            if not self._is_lost and content is _Ending.RESET:
                raise _CutError
            if not self._is_lost and not self.writer.transport.is_closing():
                self.writer.write_eof()
            return

    async def _forward(self, due: float, content: bytes) -> None:
        """Write one step of it and keep the rest for the next."""
        room = self._weather.cut_after_bytes - self._num_forwarded_bytes
        num_bytes = int(min(len(content), self._weather.step_bytes, room))
        if content[num_bytes:]:
            self._pieces.appendleft((due, content[num_bytes:]))
            self._num_in_flight_bytes += len(content) - num_bytes
        self._num_forwarded_bytes += num_bytes
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + num_bytes / self._weather.bytes_per_second
        if self.writer.transport.is_closing():  # the other lane tells its own sender
            self._is_lost = True
            return
        self.writer.write(content[:num_bytes])
        try:
            await self.writer.drain()
        except OSError:
            self._is_lost = True
        await asyncio.sleep(0)  # so that each step leaves alone

    @property
    def _is_cut(self) -> bool:
        return not self._is_lost and self._num_forwarded_bytes >= self._weather.cut_after_bytes

    def _seconds_to_wait(self) -> float:
        if self._is_cut:
            return 0.0
        if not self._pieces:
            return math.inf
        if self._is_lost:
            return 0.0
        if self._weather.is_stalled:
            return math.inf
        return max(self._pieces[0][0], self._free_at) - asyncio.get_running_loop().time()

    def _put(self, due: float, content: bytes | _Ending) -> None:
        self._pieces.append((due, content))
        self._num_in_flight_bytes += len(content) if isinstance(content, bytes) else 0
        self._news.set()

    def _take(self) -> tuple[float, bytes | _Ending]:
        due, content = self._pieces.popleft()
        self._num_in_flight_bytes -= len(content) if isinstance(content, bytes) else 0
        self._news.set()
        return due, content

    async def _wait_for_news(self, seconds: float) -> None:
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await self._news.wait()


def _reset(transport: asyncio.WriteTransport) -> None:
    own = transport.get_extra_info("socket")
    if not transport.is_closing():
        with socket(fileno=os.dup(own.fileno())) as same:  # uvloop hides the options of its own
            same.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
