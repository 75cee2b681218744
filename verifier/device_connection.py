"""One connection of one device: reads its messages, keeps their order legal, writes the answers.

Used once and thrown away.  Whatever is wrong with a message ends its stream or this connection,
never anything else.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import WSMsgType, web

from shared.codec import decode_from_agent, encode
from shared.errors import GoodspeedError, RemoteProtocolError, RequestRefused
from shared.fingerprint import first_difference
from shared.messages import (
    PROTOCOL_VERSION,
    AgentMessage,
    Cancel,
    Draft,
    Error,
    ErrorCode,
    GoingAway,
    Goodbye,
    Hello,
    Open,
    Ready,
    Status,
    VerifierMessage,
    Welcome,
)
from shared.path import DraftToken, Extension
from shared.session import (
    VERIFIER_CONNECTION,
    VERIFIER_STREAM,
    ConnectionState,
    StreamState,
    next_state,
)
from shared.sparse_rows import unpack_rows
from shared.token_ids import unpack_token_ids
from verifier.service import Device, VerifierService
from verifier.streams import Stream

logger = logging.getLogger(__name__)

# A board that reads nothing for this many messages is cut off; one round is one message a stream.
MAX_QUEUED_MESSAGES = 1024
# A peer that does not take a message for this long is gone, whatever its socket says.
SEND_TIMEOUT_SECONDS = 10.0


class ConnectionRefused(GoodspeedError):
    """The handshake failed; `error` is what the board is told."""

    def __init__(self, error: Error) -> None:
        self.error = error
        super().__init__(error.sentence)


class _OpenStream:
    """A channel of this connection; `stream` is None until the prompt is tokenized."""

    __slots__ = ("state", "stream")

    def __init__(self) -> None:
        self.state = StreamState.OPENING
        self.stream: Stream | None = None


class DeviceConnection:
    """Drives one websocket; `run` returns when it is over."""

    def __init__(
        self, socket: web.WebSocketResponse, device: Device, service: VerifierService
    ) -> None:
        self._socket = socket
        self._device = device
        self._service = service
        self._state = ConnectionState.GREETING
        self._channels: dict[int, _OpenStream] = {}
        self._highest_channel = -1
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_QUEUED_MESSAGES)
        self._opening: set[asyncio.Task[None]] = set()
        self._is_overrun = False

    # --- what others call ----------------------------------------------------------------------

    def send(self, message: VerifierMessage) -> None:
        """Queue a message; a board that does not read is cut off."""
        packed = encode(message)
        try:
            self._outgoing.put_nowait(packed)
        except asyncio.QueueFull:
            self._is_overrun = True

    def stream_ended(self, channel: int) -> None:
        """The last message of a channel was queued; later messages for it are ignored."""
        self._channels.pop(channel, None)

    def going_away(self, retry_after_seconds: float) -> None:
        """Tell the board that the verifier shuts down."""
        if self._state is ConnectionState.OPEN:
            self._state = ConnectionState.LEAVING
            self.send(GoingAway(retry_after_seconds))

    def replace(self) -> None:
        """End this connection because the device made a newer one."""
        self.send(Error(ErrorCode.REPLACED, "a newer connection of this device took over"))
        self.close()

    # --- the life of the connection ------------------------------------------------------------

    async def run(self) -> None:
        """Read until the board leaves, breaks the protocol or is cut off."""
        writer = asyncio.create_task(self._write(), name=f"write-{self._device.name}")
        try:
            await self._read()
        except ConnectionRefused as refusal:
            self.send(refusal.error)
        except RemoteProtocolError as error:
            self._service.metrics.rejected(error.code)
            logger.warning("device %s: %s", self._device.name, error)
            self.send(Error(error.code, str(error)))
        finally:
            self._state = ConnectionState.CLOSED
            for task in self._opening:
                task.cancel()
            for channel in self._channels.values():
                if channel.stream is not None:
                    self._service.drop(channel.stream)
            self._channels.clear()
            if self._device.outbox is self:
                self._device.outbox = None
            self.close()
            await writer
            await self._socket.close()

    async def _read(self) -> None:
        async for frame in self._socket:
            if self._is_overrun:
                raise RemoteProtocolError(
                    f"{MAX_QUEUED_MESSAGES} messages wait to be read", ErrorCode.LIMIT
                )
            if frame.type is not WSMsgType.BINARY:
                raise RemoteProtocolError("text frames are not allowed")
            self._service.metrics.received(self._device.name, len(frame.data))
            self._receive(decode_from_agent(frame.data))
            if self._state is ConnectionState.CLOSED:
                return

    async def _write(self) -> None:
        while (packed := await self._outgoing.get()) is not None:
            try:
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    await self._socket.send_bytes(packed)
            except (TimeoutError, ConnectionError, RuntimeError):
                await self._socket.close()  # ends the reader; it cleans up
                return
            self._service.metrics.sent(self._device.name, len(packed))
        await self._socket.close()

    def close(self) -> None:
        """Write what is queued and end; `run` returns soon after."""
        self._state = ConnectionState.CLOSED
        if self._outgoing.full():
            self._outgoing.get_nowait()
        self._outgoing.put_nowait(None)

    # --- messages ------------------------------------------------------------------------------

    def _receive(self, message: AgentMessage) -> None:
        self._state = next_state(VERIFIER_CONNECTION, self._state, message)
        match message:
            case Hello():
                self._greet(message)
            case Open():
                self._open(message)
            case Ready() | Draft() | Cancel():
                self._receive_for_stream(message)
            case Status():
                self._device.estimates.speed.observe_drafting(1, message.draft_microseconds / 1e6)
            case Goodbye():
                pass

    def _greet(self, hello: Hello) -> None:
        self._check_hello(hello)
        device, service = self._device, self._service
        if device.outbox is not None:
            device.outbox.replace()
        device.epoch += 1
        device.outbox = self
        device.draft_context_tokens = hello.context_tokens
        if hello.draft_microseconds:
            device.estimates.speed.observe_drafting(1, hello.draft_microseconds / 1e6)
        self.send(
            Welcome(
                protocol_version=PROTOCOL_VERSION,
                target_model=service.target.model_name,
                vocab_size=service.target.vocab_size,
                epoch=device.epoch,
                context_tokens=service.limits.context_tokens,
                max_streams=service.limits.max_streams_per_device,
            )
        )

    def _check_hello(self, hello: Hello) -> None:
        if hello.protocol_version != PROTOCOL_VERSION:
            raise ConnectionRefused(
                Error(
                    ErrorCode.VERSION,
                    f"agent speaks protocol {hello.protocol_version}, verifier {PROTOCOL_VERSION}",
                )
            )
        service = self._service
        difference = first_difference(
            service.fingerprint,
            hello.fingerprint,
            service.tokenizer.token_bytes,
            service.tokenizer.special_ids,
        )
        if difference is not None:
            sentence = (
                f"draft model {hello.draft_model} has another vocabulary than "
                f"{service.target.model_name}"
            )
            raise ConnectionRefused(Error(ErrorCode.VOCABULARY, sentence, difference=difference))

    def _open(self, message: Open) -> None:
        if message.channel <= self._highest_channel:
            raise RemoteProtocolError(f"channel {message.channel} was used before")
        self._highest_channel = message.channel
        limit = self._service.limits.max_streams_per_device
        if self._state is ConnectionState.LEAVING:
            self._refuse(message.channel, ErrorCode.LIMIT, "the verifier is shutting down")
        elif len(self._channels) >= limit:
            self._refuse(
                message.channel, ErrorCode.LIMIT, f"the device has {limit} streams already"
            )
        else:
            self._channels[message.channel] = _OpenStream()
            task = asyncio.create_task(self._open_stream(message), name=f"open-{message.channel}")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open_stream(self, message: Open) -> None:
        channel = self._channels[message.channel]
        try:
            stream = await self._service.open_stream(self._device, self, message)
        except RequestRefused as error:
            self._refuse(message.channel, ErrorCode.REQUEST, str(error), error.field)
            return
        except RemoteProtocolError as error:
            self._refuse(message.channel, error.code, str(error))
            return
        channel.stream = stream
        if channel.state is StreamState.CANCELLING:
            self._service.cancel(stream)
        else:
            channel.state = StreamState.RUNNING

    def _refuse(self, channel: int, code: str, sentence: str, field: str | None = None) -> None:
        self._channels.pop(channel, None)
        self._service.metrics.rejected(code)
        self.send(Error(code, sentence, channel, field or ""))

    def _receive_for_stream(self, message: Ready | Draft | Cancel) -> None:
        if message.channel > self._highest_channel:
            raise RemoteProtocolError(f"channel {message.channel} was never opened")
        channel = self._channels.get(message.channel)
        if channel is None:
            return  # ended; this crossed its last verdict
        try:
            channel.state = next_state(VERIFIER_STREAM, channel.state, message)
            self._apply(message, channel)
        except RemoteProtocolError as error:
            logger.warning("device %s, channel %d: %s", self._device.name, message.channel, error)
            if channel.stream is not None:
                self._service.drop(channel.stream)
            self._refuse(message.channel, error.code, str(error))

    def _apply(self, message: Ready | Draft | Cancel, channel: _OpenStream) -> None:
        stream = channel.stream
        if stream is None:
            return  # Cancel while opening: done as soon as the prompt is tokenized
        match message:
            case Ready():
                stream.board_is_ready = True
            case Draft():
                draft, drafting_seconds = self._extension(message)
                now = asyncio.get_running_loop().time()
                stream.receive_draft(draft, drafting_seconds, now)
            case Cancel():
                self._service.cancel(stream)
        self._service.wake()

    def _extension(self, message: Draft) -> tuple[Extension, float]:
        vocab_size = self._service.target.vocab_size
        token_ids = unpack_token_ids(message.tokens, vocab_size).tolist()
        rows = unpack_rows(message.rows, vocab_size) if message.rows else ()
        num_bare = len(token_ids) - len(rows)  # all of them, or the guess that comes first
        if num_bare < 0 or (rows and num_bare > 1):
            raise RemoteProtocolError(f"{len(rows)} rows came for {len(token_ids)} draft tokens")
        last = len(token_ids) - 1
        tokens = tuple(
            DraftToken(token_id, rows[i - num_bare] if i >= num_bare else None, i == last)
            for i, token_id in enumerate(token_ids)
        )
        return (
            Extension(message.base, message.position, tokens),
            message.drafting_microseconds / 1e6,
        )
