"""Clients that know nothing of HTTP manners: raw sockets, for tests of a port."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

PATIENCE_SECONDS = 10.0
TRICKLE_SECONDS = 0.02  # between two pieces of what trickles in


class Stranger:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def line(self) -> bytes:
        """The next line of the answer; empty when the other end has closed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.readline()

    async def answer(self) -> bytes:
        """All that comes until the other end closes."""
        parts: list[bytes] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionError):
                while part := await self._reader.read(65_536):
                    parts.append(part)
        return b"".join(parts)

    async def head(self) -> bytes:
        """The head of an answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> bytes:
        """The payload of the next short websocket frame."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, length = await self._reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self._reader.readexactly(2), "big")
            return await self._reader.readexactly(length)

    async def trickle(self, said: bytes) -> int:
        """Send the same after every pause until the other end cuts the connection; how often."""
        num_sent = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionError):
                while not self.is_cut:
                    await self.send(said)
                    num_sent += 1
                    await asyncio.sleep(TRICKLE_SECONDS)
        return num_sent

    @property
    def is_cut(self) -> bool:
        return self._reader.at_eof() or self._reader.exception() is not None

    def close(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def stranger(port: int) -> AsyncIterator[Stranger]:
    """One connection to a port of this machine."""
    one = Stranger(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield one
    finally:
        one.close()


@asynccontextmanager
async def strangers(port: int, count: int) -> AsyncIterator[list[Stranger]]:
    """So many connections, all open at once as far as the other end lets them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(stranger(port)) for _ in range(count)]


def upgrade(path: str, *headers: str) -> bytes:
    """The head of a websocket upgrade."""
    key = base64.b64encode(bytes(16)).decode()
    lines = (
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def masked_frame(first_byte: int, payload: bytes) -> bytes:
    """A client's websocket frame; the mask is zero, so the payload is as it is."""
    length = len(payload)
    if length < 126:
        return bytes((first_byte, 0x80 | length)) + bytes(4) + payload
    return bytes((first_byte, 0x80 | 126)) + length.to_bytes(2, "big") + bytes(4) + payload
