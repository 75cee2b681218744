"""A link whose way up is narrow: bytes pass at a rate, and nothing on it keeps many of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_STEP_BYTES = 4096


@asynccontextmanager
async def narrow_uplink(port: int, bytes_per_second: float) -> AsyncIterator[int]:
    """The port of a way to `port` on this machine."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        ways = [
            asyncio.create_task(_pass_on(reader, far_writer, _STEP_BYTES / bytes_per_second)),
            asyncio.create_task(_pass_on(far_reader, writer, 0.0)),
        ]
        tasks.update(ways)
        await asyncio.wait(ways)

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _STEP_BYTES)
    server = await asyncio.start_server(accept, sock=listener, limit=_STEP_BYTES)
    try:
        yield listener.getsockname()[1]
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        server.close()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, step_seconds: float
) -> None:
    try:
        with suppress(ConnectionError):
            while content := await reader.read(_STEP_BYTES):
                writer.write(content)
                await writer.drain()
                await asyncio.sleep(step_seconds * len(content) / _STEP_BYTES)
    finally:
        writer.transport.abort()
