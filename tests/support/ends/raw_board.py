"""A board driven by hand: it says what a test wants, right or wrong, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import aiohttp

from shared.protocol.codec import decode_from_verifier, encode
from shared.protocol.messages import (
    PROTOCOL_VERSION,
    AgentMessage,
    Draft,
    Error,
    Hello,
    Open,
    Opened,
    Ready,
    Verdict,
    VerifierMessage,
    Welcome,
)
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import Verifier

DEVICE_PATH = "/v1/device"
PATIENCE_SECONDS = 10.0
MessageT = TypeVar("MessageT", bound=VerifierMessage)


class Closed(Exception):
    """The verifier closed the connection."""


class RawBoard:
    """One open websocket to a verifier."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, vocab_size: int) -> None:
        self.socket = socket
        self.vocab_size = vocab_size
        self.received: list[VerifierMessage] = []

    async def send(self, message: AgentMessage) -> None:
        await self.socket.send_bytes(encode(message))

    async def send_packed(self, packed: bytes) -> None:
        """Any bytes as one binary message."""
        await self.socket.send_bytes(packed)

    async def next(self) -> VerifierMessage:
        """The next message.

        Raises:
            Closed: there is none.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            frame = await self._frame()
        if frame.type is not aiohttp.WSMsgType.BINARY:
            raise Closed(f"{frame.type!r} {self.socket.close_code}")
        self.received.append(decode_from_verifier(frame.data))
        return self.received[-1]

    async def _frame(self) -> aiohttp.WSMessage:
        """The next frame; what came before the end can be read when pings are answered no more."""
        while True:
            with suppress(aiohttp.ClientConnectionResetError):
                return await self.socket.receive()

    async def next_of(self, message_type: type[MessageT]) -> MessageT:
        """The next message of one type; others before it are only kept."""
        while not isinstance(message := await self.next(), message_type):
            pass
        return message

    async def error(self, channel: int | None = None) -> Error:
        """The next error about a channel, or about the connection."""
        while (error := await self.next_of(Error)).channel != channel:
            pass
        return error

    async def ended(self) -> None:
        """Read until the verifier has closed the connection."""
        try:
            while True:
                await self.next()
        except Closed:
            return

    async def open(
        self,
        channel: int = 0,
        sampling: SamplingParameters = GREEDY,
        text: str = "a prompt",
        max_tokens: int = 1000,
        draft_length: int | None = None,
    ) -> Opened:
        """Open a stream; in `rejection` unless it is greedy."""
        await self.send(
            Open(
                channel=channel,
                stream_id=channel,
                text=text,
                sampling=sampling,
                max_tokens=max_tokens,
                acceptance_mode="rejection",
                draft_length=draft_length,
            )
        )
        return await self.next_of(Opened)

    async def window(self, channel: int = 0) -> Verdict:
        """Say Ready and wait for the first verdict that grants a window."""
        await self.send(Ready(channel))
        while (verdict := await self.next_of(Verdict)).channel != channel or not verdict.window:
            assert verdict.finish is None
        return verdict

    def position_after(self, verdict: Verdict) -> int:
        """The committed length after a verdict."""
        own = unpack_token_ids(verdict.tokens, self.vocab_size)
        return verdict.position + verdict.num_accepted + len(own)

    async def draft(
        self, base: int, position: int, token_ids: list[int], rows: bytes = b"", channel: int = 0
    ) -> None:
        """Send a Draft."""
        await self.send(Draft(channel, base, position - base, pack_token_ids(token_ids), rows=rows))


def hello_to(verifier: Verifier, instance_id: int = 0) -> Hello:
    """A Hello that this verifier welcomes."""
    service = verifier.service
    return Hello(
        protocol_version=PROTOCOL_VERSION,
        agent_version="0",
        draft_model="raw",
        vocab_size=service.target.vocab_size,
        fingerprint=service.fingerprint,
        context_tokens=4096,
        instance_id=instance_id,
    )


@asynccontextmanager
async def raw_board(
    verifier: Verifier, device: str, *, greets: bool = True, instance_id: int = 0
) -> AsyncIterator[RawBoard]:
    """A board that has been welcomed, or one that has said nothing yet."""
    headers = {"Authorization": f"Bearer {verifier.tokens[device]}"}
    url = verifier.url + DEVICE_PATH
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, headers=headers, max_msg_size=0) as socket,
    ):
        board = RawBoard(socket, verifier.service.target.vocab_size)
        if greets:
            await board.send(hello_to(verifier, instance_id))
            await board.next_of(Welcome)
        yield board
