"""A verifier driven by hand: it answers boards as a test wants, right or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from aiohttp import WSMsgType, web

from shared.protocol.codec import decode_from_agent, encode
from shared.protocol.messages import (
    PROTOCOL_VERSION,
    AgentMessage,
    Hello,
    Open,
    Opened,
    VerifierMessage,
    Welcome,
)
from shared.protocol.token_ids import pack_token_ids

PATIENCE_SECONDS = 10.0
WELCOME = Welcome(
    protocol_version=PROTOCOL_VERSION,
    target_model="fake",
    vocab_size=64,
    epoch=1,
    context_tokens=4096,
    max_streams=8,
)
MessageT = TypeVar("MessageT", bound=AgentMessage)


class BoardGone(Exception):
    """The board closed the connection."""


class VerifierSide:
    """One accepted connection."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.received: list[AgentMessage] = []

    async def send(self, message: VerifierMessage) -> None:
        await self.socket.send_bytes(encode(message))

    async def next(self) -> AgentMessage:
        """The next message.

        Raises:
            BoardGone: there is none.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            frame = await self.socket.receive()
        if frame.type is not WSMsgType.BINARY:
            raise BoardGone
        self.received.append(decode_from_agent(frame.data))
        return self.received[-1]

    async def next_of(self, message_type: type[MessageT]) -> MessageT:
        """The next message of one type; others before it are only kept."""
        while not isinstance(message := await self.next(), message_type):
            pass
        return message

    async def welcome(self) -> Hello:
        """Greet the board."""
        hello = await self.next_of(Hello)
        await self.send(WELCOME)
        return hello

    async def opened(self, prompt_ids: tuple[int, ...] = (1, 2, 3)) -> Open:
        """Take the next stream in."""
        message = await self.next_of(Open)
        await self.send(Opened(message.channel, pack_token_ids(prompt_ids), 5, "coupled"))
        return message

    async def until_gone(self) -> None:
        """Read until the board leaves."""
        try:
            while True:
                await self.next()
        except BoardGone:
            return


Serve = Callable[[VerifierSide], Awaitable[None]]


@asynccontextmanager
async def fake_verifier(serve: Serve) -> AsyncIterator[str]:
    """The address of a verifier that lets `serve` answer every connection."""

    async def accept(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, timeout=0.2)
        await socket.prepare(request)
        await serve(VerifierSide(socket))
        await socket.close()
        return socket

    async with serving(accept) as url:
        yield url


@asynccontextmanager
async def serving(
    accept: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """The address of a server that answers every request of a board with `accept`."""
    app = web.Application()
    app.router.add_get("/v1/device", accept)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
