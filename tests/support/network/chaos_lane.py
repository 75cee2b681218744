"""One direction of a connection through the chaos proxy, and the weather that holds in it.

Order is always kept, and bytes are never changed: what a lane has once swallowed is the last of it,
because TCP would never deliver what follows.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

PIECE_BYTES = 64 * 1024
MAX_IN_FLIGHT_BYTES = 1024 * 1024  # on their way in one direction; then its sender has to wait
RATE_STEP_SECONDS = 0.02  # a limited rate flows in steps this long


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


class CutError(Exception):
    """Both sides are to be reset."""


class Lane:
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
            CutError: a reset came, or the weather cuts here.
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
                raise CutError
            due, content = self._take()
            self._is_lost |= self._weather.is_half_open
            if isinstance(content, bytes):
                if not self._is_lost:
                    await self._forward(due, content)
                continue
            if not self._is_lost and content is _Ending.RESET:
                raise CutError
            if not self._is_lost and not self.writer.transport.is_closing():
                with suppress(OSError):  # that side was reset just now
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
        if num_bytes < len(content):
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


class _Ending(Enum):
    END = "the sender will send no more"
    RESET = "the sender's side was reset"
