"""One connection to the verifier: greet, read, write. Used once and thrown away."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import NoReturn

import aiohttp

from edge_agent.draft_model.drafter import Drafter
from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.link.unreachable import unreachable
from shared.daemon.send_queue import SendQueue, SendQueueFull
from shared.errors import (
    AuthRejected,
    HandshakeRejected,
    LinkLost,
    RemoteProtocolError,
    TokenRevoked,
    VerifierLoading,
)
from shared.protocol.codec import decode_from_verifier, encode
from shared.protocol.fingerprint import Difference, explain, fingerprint
from shared.protocol.messages import (
    MAX_63_BITS,
    MAX_MESSAGE_BYTES,
    PART_BYTES,
    PROTOCOL_VERSION,
    AgentMessage,
    Error,
    ErrorCode,
    GoingAway,
    Goodbye,
    Hello,
    VerifierMessage,
    Welcome,
)
from shared.protocol.session import AGENT_CONNECTION, ConnectionState, next_state
from shared.protocol.transport import (
    BOARD_FRAME_HEADER_BYTES,
    DEVICE_PATH,
    LOADING_HEADER,
    MAX_QUEUED_MESSAGES,
    SEND_TIMEOUT_SECONDS,
    VERIFIER_FRAME_HEADER_BYTES,
)

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 10.0
# Silence after which the verifier is pinged; no answer for half of that, and the link is lost. As
# aiohttp rounds up that takes 8 to 9 s: with the way back, a client waits 10 s at most.
HEARTBEAT_SECONDS = 5.0
# How long the verifier may take to read a Goodbye and to answer the close.
FAREWELL_SECONDS = 1.0


def make_hello(
    drafter: Drafter,
    *,
    context_tokens: int,
    draft_token_seconds: float,
    max_streams: int,
    draft_bytes: int = 0,
    takes_drafts: bool = False,
) -> Hello:
    """The greeting of a board that drafts with this vocabulary; 0 s: its speed is not known.

    `draft_bytes`: of its draft model's file; 0: there is none.
    """
    return Hello(
        protocol_version=PROTOCOL_VERSION,
        agent_version=version("goodspeed"),
        draft_model=drafter.model_name,
        vocab_size=drafter.vocab_size,
        fingerprint=fingerprint(drafter.token_bytes),
        context_tokens=context_tokens,
        draft_microseconds=round(draft_token_seconds * 1e6),
        max_streams=max_streams,
        instance_id=random.SystemRandom().randint(1, MAX_63_BITS),
        takes_notices=True,
        draft_bytes=draft_bytes,
        takes_drafts=takes_drafts,
    )


class OtherVocabulary(HandshakeRejected):
    """The verifier's vocabulary is not the one of the greeting; this is where."""

    def __init__(self, sentence: str, difference: Difference) -> None:
        super().__init__(sentence)
        self.difference = difference


class Link:
    """Drives one websocket to the verifier; `run` returns only by an exception."""

    def __init__(
        self,
        hello: Hello,
        drafter: SharedVocabulary,
        receive: Callable[[VerifierMessage, int], None],
        welcome: Callable[[Link, Welcome], None],
    ) -> None:
        self._hello = hello
        self._drafter = drafter
        self._receive = receive
        self._welcome = welcome
        self._state = ConnectionState.GREETING
        self._outgoing = SendQueue(MAX_QUEUED_MESSAGES)
        self._is_overrun = False  # a message found no room: the verifier missed it
        self._retry_after_seconds: float | None = None
        self._greeted_at = 0.0
        self.round_trip_seconds = 0.0  # of the greeting

    @property
    def takes_streams(self) -> bool:
        """Whether new streams may be opened."""
        return self._state is ConnectionState.OPEN

    def send(self, message: AgentMessage) -> int:
        """Queue a message; its bytes on the wire (0 when the link is about to be lost).

        Raises:
            LocalProtocolError: the message is too long.
        """
        return self.send_packed(encode(message))

    def send_packed(self, packed: bytes) -> int:
        """Queue an encoded message, like `send`."""
        try:
            self._outgoing.put(packed)
        except SendQueueFull:
            self._is_overrun = True  # the writer stands still; it ends the link
            return 0
        return len(packed) + BOARD_FRAME_HEADER_BYTES

    def send_parts(
        self, messages: Sequence[AgentMessage], is_wanted: Callable[[], bool] = lambda: True
    ) -> int:
        """Queue the parts of a long message, to be sent between others as long as it is wanted.

        Raises:
            LocalProtocolError: one cannot be packed.
        """
        parts = [encode(message) for message in messages]
        self._outgoing.put_parts(parts, is_wanted)
        return sum(len(part) + BOARD_FRAME_HEADER_BYTES for part in parts)

    async def run(
        self,
        session: aiohttp.ClientSession,
        url: str,
        token: str,
        tls: ssl.SSLContext | None = None,
    ) -> NoReturn:
        """Connect and read until the connection ends; cancelled, it says Goodbye.

        `tls`: whom to trust at a wss:// address; None: those whom the system trusts.

        Raises:
            LinkLost: it ended or could not be made.
            AuthRejected: the token is not known there, or not any more.
            HandshakeRejected: version or vocabulary differ, or another agent uses the token.
            RemoteProtocolError: the verifier broke the protocol.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                websocket = await session.ws_connect(
                    url.rstrip("/") + DEVICE_PATH,
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=aiohttp.ClientWSTimeout(ws_close=FAREWELL_SECONDS),
                    compress=0,
                    max_msg_size=MAX_MESSAGE_BYTES,
                    heartbeat=HEARTBEAT_SECONDS,
                    ssl=True if tls is None else tls,
                )
        except aiohttp.WSServerHandshakeError as error:
            raise _handshake_error(error) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise await unreachable(error, url, CONNECT_TIMEOUT_SECONDS, tls) from error
        _keep_unsent_short(websocket)
        writer = asyncio.create_task(self._write(websocket), name="link-writer")
        try:
            await self._read(websocket)
        except asyncio.CancelledError:
            await self._say_goodbye(websocket)
            raise
        finally:
            writer.cancel()
            await asyncio.wait([writer])
            with suppress(TimeoutError):
                async with asyncio.timeout(2 * FAREWELL_SECONDS):
                    await websocket.close()

    async def _say_goodbye(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        if self._state not in (ConnectionState.OPEN, ConnectionState.LEAVING):
            return
        with suppress(TimeoutError, ConnectionError, aiohttp.ClientError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await websocket.send_bytes(encode(Goodbye()))

    async def _read(self, websocket: aiohttp.ClientWebSocketResponse) -> NoReturn:
        self._greeted_at = time.monotonic()
        self.send(self._hello)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                frame = await _next_frame(websocket)
        except TimeoutError:
            raise LinkLost(
                f"the verifier did not answer the greeting within {CONNECT_TIMEOUT_SECONDS:g} s"
            ) from None
        while frame.type is aiohttp.WSMsgType.BINARY:
            message = decode_from_verifier(frame.data)
            self._state = next_state(AGENT_CONNECTION, self._state, message)
            self._dispatch(message, len(frame.data) + VERIFIER_FRAME_HEADER_BYTES)
            await asyncio.sleep(0)  # one frame in each turn of the loop, however many came at once
            frame = await _next_frame(websocket)
        raise self._ending(frame)

    def _ending(self, frame: aiohttp.WSMessage) -> Exception:
        """Why there is no further message."""
        match frame.type:
            case aiohttp.WSMsgType.TEXT:
                return RemoteProtocolError("text frames are not allowed")
            case aiohttp.WSMsgType.ERROR if isinstance(frame.data, aiohttp.WebSocketError):
                return RemoteProtocolError(f"websocket frame is not allowed: {frame.data}")
            case aiohttp.WSMsgType.ERROR:
                return LinkLost(f"the connection to the verifier broke: {frame.data}")
            case _:
                return LinkLost("the verifier closed the connection", self._retry_after_seconds)

    def _dispatch(self, message: VerifierMessage, num_bytes: int) -> None:
        match message:
            case Welcome():
                if message.protocol_version != PROTOCOL_VERSION:
                    raise HandshakeRejected(
                        f"the verifier speaks protocol {message.protocol_version}; "
                        f"this is protocol {PROTOCOL_VERSION}"
                    )
                self.round_trip_seconds = time.monotonic() - self._greeted_at
                self._welcome(self, message)
            case GoingAway():
                self._retry_after_seconds = message.retry_after_seconds
                logger.info("the verifier is shutting down: %.0f s", message.retry_after_seconds)
            case Error(channel=None):
                raise self._refusal(message)
            case _:
                self._receive(message, num_bytes)

    def _refusal(self, error: Error) -> Exception:
        if error.code == ErrorCode.VOCABULARY and error.difference is not None:
            explanation = explain(error.difference, self._drafter.own_token_bytes)
            return OtherVocabulary(f"{error.sentence}: {explanation}", error.difference)
        if error.code == ErrorCode.VERSION:
            return HandshakeRejected(f"{error.sentence}; this is protocol {PROTOCOL_VERSION}")
        if error.code == ErrorCode.REVOKED:
            return TokenRevoked()
        if error.code == ErrorCode.TOKEN_IN_USE:
            return HandshakeRejected(error.sentence)
        return LinkLost(f"the verifier ended the connection: {error.sentence}")

    async def _write(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        with suppress(TimeoutError, ConnectionError, aiohttp.ClientError):
            while not self._is_overrun and (packed := await self._outgoing.get()) is not None:
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    await websocket.send_bytes(packed)
        await websocket.close()  # ends the reader with LinkLost


def _keep_unsent_short(websocket: aiohttp.ClientWebSocketResponse) -> None:
    """Let the kernel hold little that is not on its way yet.

    It would take megabytes of a long prompt, and pings and drafts would wait behind them: over a
    slow link, for longer than a link without an answer is taken for alive.
    """
    tcp = websocket.get_extra_info("socket")
    if tcp is not None and tcp.family in (socket.AF_INET, socket.AF_INET6):
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, PART_BYTES)


def _handshake_error(error: aiohttp.WSServerHandshakeError) -> Exception:
    if error.status in (401, 403):
        return AuthRejected("the verifier does not accept this device's token")
    retry_after = error.headers.get("Retry-After", "") if error.headers else ""
    seconds = float(retry_after) if retry_after.isdigit() else None
    if error.headers and LOADING_HEADER in error.headers:
        return VerifierLoading(error.headers[LOADING_HEADER], seconds)
    return LinkLost(f"the verifier answered {error.status}", seconds)


async def _next_frame(websocket: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
    """What the verifier says next.

    Raises:
        LinkLost: it asked for a sign of life on a connection that has just broken.
    """
    try:
        return await websocket.receive()
    except (aiohttp.ClientError, ConnectionError) as error:  # of the pong that `receive` sends
        raise LinkLost(f"the connection to the verifier broke: {error}") from error
