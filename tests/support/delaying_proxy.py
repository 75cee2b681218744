"""A TCP proxy on loopback that delays each direction and can cut every connection.

Bytes arrive in order, each piece after `delay_seconds` and a random part of `jitter_seconds`.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET, socket

_PIECE_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Delay:
    """How late one direction is."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0


NO_DELAY = Delay()


class DelayingProxy:
    """Forwards to one port of this host."""

    def __init__(self, target_port: int, up: Delay, down: Delay, seed: int) -> None:
        self.port = 0
        self.num_connections = 0  # made so far
        self._target_port = target_port
        self._up, self._down = up, down
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.WriteTransport] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut everything and end."""
        assert self._server is not None
        self._server.close()
        self.cut()
        if self._pumps:
            await asyncio.wait(self._pumps)

    def cut(self) -> None:
        """Reset every open connection, as a router that has forgotten them does."""
        for transport in self._transports:
            _reset(transport)
        self._transports.clear()
        for pump in self._pumps:
            pump.cancel()

    async def _accept(self, near: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            far, verifier = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:  # there is no verifier now
            client.transport.abort()
            return
        self.num_connections += 1
        self._transports |= {client.transport, verifier.transport}
        self._start(self._pump(near, verifier, self._up))
        self._start(self._pump(far, client, self._down))

    def _start(self, pump: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(pump, name="proxy-pump")
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Delay
    ) -> None:
        loop = asyncio.get_running_loop()
        # Timers that are due together fire in any order, so each forwards the oldest piece.
        pieces: deque[bytes] = deque()
        due = loop.time()
        try:
            while True:
                pieces.append(await reader.read(_PIECE_BYTES))
                late = delay.delay_seconds + delay.jitter_seconds * self._random.random()
                due = max(due, loop.time() + late)
                loop.call_at(due, _forward, writer, pieces)
                if not pieces[-1]:
                    return
        except ConnectionError:
            writer.transport.abort()


def _reset(transport: asyncio.WriteTransport) -> None:
    own = transport.get_extra_info("socket")
    if not transport.is_closing():
        with socket(fileno=os.dup(own.fileno())) as same:  # uvloop hides the options of its own
            same.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def _forward(writer: asyncio.StreamWriter, pieces: deque[bytes]) -> None:
    piece = pieces.popleft()
    if not piece:
        writer.close()
    elif not writer.transport.is_closing():
        writer.write(piece)


@asynccontextmanager
async def delaying_proxy(
    target_port: int, up: Delay = NO_DELAY, down: Delay = NO_DELAY, seed: int = 0
) -> AsyncIterator[DelayingProxy]:
    """A proxy that listens while the block runs."""
    proxy = DelayingProxy(target_port, up, down, seed)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
