"""A TCP proxy on loopback that delays each direction and can cut every connection.

Bytes arrive in order, each piece after `delay_seconds` plus a random part of `jitter_seconds`, from
a seeded generator.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET

_PIECE_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Delay:
    """How late one direction is."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0


class DelayingProxy:
    """Forwards to one port of this host."""

    def __init__(self, port: int, up: Delay, down: Delay, seed: int) -> None:
        self.num_connections = 0
        self.port = 0
        self._target_port = port
        self._up, self._down = up, down
        self._random = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
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
        """Reset every open connection, as a router that forgot them does."""
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()
        for pump in self._pumps:
            pump.cancel()

    async def _accept(self, near: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            far, verifier = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:  # the verifier is down
            client.transport.abort()
            return
        self.num_connections += 1
        self._writers |= {client, verifier}
        self._start(self._pump(near, verifier, self._up))
        self._start(self._pump(far, client, self._down))

    def _start(self, pump: asyncio.Future[None] | object) -> None:
        task = asyncio.ensure_future(pump)  # type: ignore[arg-type]
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Delay
    ) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        try:
            while piece := await reader.read(_PIECE_BYTES):
                late = delay.delay_seconds + delay.jitter_seconds * self._random.random()
                due = max(due, loop.time() + late)
                loop.call_at(due, _write, writer, piece)
            loop.call_at(max(due, loop.time()), _close, writer)
        except ConnectionError:
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
