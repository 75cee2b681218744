"""One connection of one device: reads its messages, keeps their order legal, writes the answers.

Used once and thrown away.  Whatever is wrong with a message ends its stream or this connection,
never anything else.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import WebSocketError, WSMessage, WSMsgType, web

from shared.codec import decode_from_agent, encode
from shared.errors import RemoteProtocolError, RequestRefused
from shared.messages import (
    MAX_SENTENCE_LENGTH,
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
from shared.session import (
    VERIFIER_CONNECTION,
    VERIFIER_STREAM,
    ConnectionState,
    StreamState,
    next_state,
)
from verifier.drafts import unpack_draft
from verifier.greeting import ConnectionRefused, check_hello
from verifier.service import Device, VerifierService
from verifier.streams import Stream

logger = logging.getLogger(__name__)

# A board that reads nothing for this many messages is cut off; one round is one message a stream.
MAX_QUEUED_MESSAGES = 1024
# A peer that does not take a message for this long is gone, whatever its socket says.
SEND_TIMEOUT_SECONDS = 10.0
# A connection that has not said Hello by then makes room for others.
HELLO_TIMEOUT_SECONDS = 10.0
# How long a board may take to read its last messages and to answer the close.
FAREWELL_SECONDS = 2.0


class _OpenStream:
    """A channel of this connection; `stream` is None until the prompt is tokenized."""

    __slots__ = ("opening", "state", "stream")

    def __init__(self) -> None:
        self.state = StreamState.OPENING
        self.stream: Stream | None = None
        self.opening: asyncio.Task[None] | None = None


class DeviceConnection:
    """Drives one websocket; `run` returns when it is over."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        device: Device,
        service: VerifierService,
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._device = device
        self._service = service
        self._state = ConnectionState.GREETING
        self._channels: dict[int, _OpenStream] = {}
        self._highest_channel = -1
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_QUEUED_MESSAGES)

    # --- what others call ----------------------------------------------------------------------

    def send(self, message: VerifierMessage) -> None:
        """Queue a message; a board that does not read is cut off."""
        if self._is_closed:
            return
        try:
            self._outgoing.put_nowait(encode(message))
        except asyncio.QueueFull:
            self._cut_off(f"{MAX_QUEUED_MESSAGES} messages wait to be read")

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
        self._drop_streams()
        self.send(Error(ErrorCode.REPLACED, "a newer connection of this device took over"))
        self.close()

    def close(self) -> None:
        """Write what is queued and end; `run` returns soon after."""
        self._state = ConnectionState.CLOSED
        if self._outgoing.full():
            self._outgoing.get_nowait()
        self._outgoing.put_nowait(None)

    @property
    def _is_closed(self) -> bool:
        return self._state is ConnectionState.CLOSED

    # --- the life of the connection ------------------------------------------------------------

    async def run(self) -> None:
        """Read until the board leaves, breaks the protocol or is cut off."""
        writer = asyncio.create_task(self._write(), name=f"write-{self._device.name}")
        try:
            await self._read()
        except ConnectionRefused as refusal:
            self._reject(refusal.error)
        except RemoteProtocolError as error:
            self._reject(Error(error.code, _cut(str(error))))
        finally:
            self._drop_streams()
            if self._device.outbox is self:
                self._device.outbox = None
                logger.info("device %s disconnected", self._device.name)
            self.close()
            await asyncio.wait([writer], timeout=FAREWELL_SECONDS)
            writer.cancel()
            self._transport.abort()  # what a dead peer has not read would wait for it forever

    def _reject(self, error: Error) -> None:
        self._service.metrics.rejected(error.code)
        logger.warning("device %s: %s", self._device.name, error.sentence)
        self.send(error)

    def _drop_streams(self) -> None:
        for channel in self._channels.values():
            _drop(channel, self._service)
        self._channels.clear()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_SECONDS):
                frame = await self._socket.receive()
        except TimeoutError:
            sentence = f"no Hello came within {HELLO_TIMEOUT_SECONDS:g} s"
            raise RemoteProtocolError(sentence, ErrorCode.LIMIT) from None
        while self._take(frame):
            # One message for each turn of the event loop, however many a board sends at once.
            await asyncio.sleep(0)
            frame = await self._socket.receive()

    def _take(self, frame: WSMessage) -> bool:
        """Take one frame in; whether the connection goes on."""
        if self._is_closed:
            return False
        match frame.type:
            case WSMsgType.BINARY:
                self._service.metrics.received(self._device.name, len(frame.data))
                self._receive(decode_from_agent(frame.data))
                return not self._is_closed
            case WSMsgType.TEXT:
                raise RemoteProtocolError("text frames are not allowed")
            case WSMsgType.ERROR if isinstance(frame.data, WebSocketError):
                raise RemoteProtocolError(f"websocket frame is not allowed: {frame.data}")
            case _:
                return False  # closed, or no answer to a ping

    def _cut_off(self, reason: str) -> None:
        """End now, whatever the board has not read; the reader notices and cleans up."""
        self._service.metrics.rejected(ErrorCode.LIMIT)
        logger.warning("device %s is cut off: %s", self._device.name, reason)
        self._state = ConnectionState.CLOSED
        self._transport.abort()

    async def _write(self) -> None:
        try:
            while (packed := await self._outgoing.get()) is not None:
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    await self._socket.send_bytes(packed)
                self._service.metrics.sent(self._device.name, len(packed))
            await self._socket.close()
        except TimeoutError:
            self._cut_off(f"nothing was read for {SEND_TIMEOUT_SECONDS:g} s")
        except ConnectionError:
            self._transport.abort()  # the board is gone

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
        device, service = self._device, self._service
        check_hello(hello, service.fingerprint, service.tokenizer, service.target.model_name)
        if device.outbox is not None:
            device.outbox.replace()
        device.epoch += 1
        device.outbox = self
        device.draft_context_tokens = hello.context_tokens
        logger.info("device %s connected, drafting with %s", device.name, hello.draft_model)
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

    def _open(self, message: Open) -> None:
        if message.channel <= self._highest_channel:
            raise RemoteProtocolError(f"channel {message.channel} was used before")
        self._highest_channel = message.channel
        limit = self._service.limits.max_streams_per_device
        if self._state is ConnectionState.LEAVING:
            return  # crossed our GoingAway; the agent opens it again on its next connection
        if len(self._channels) >= limit:
            self._refuse(
                message.channel, ErrorCode.LIMIT, f"the device has {limit} streams already"
            )
        else:
            channel = self._channels[message.channel] = _OpenStream()
            channel.opening = asyncio.create_task(
                self._open_stream(message, channel), name=f"open-{message.channel}"
            )

    async def _open_stream(self, message: Open, channel: _OpenStream) -> None:
        try:
            stream = await self._service.open_stream(self._device, self, message)
        except RequestRefused as error:
            self._refuse(message.channel, ErrorCode.REQUEST, str(error), error.field)
            return
        except RemoteProtocolError as error:
            self._refuse(message.channel, error.code, str(error))
            return
        except Exception:
            logger.exception("device %s: a stream could not be opened", self._device.name)
            self._refuse(message.channel, ErrorCode.MODEL, "the stream could not be opened")
            return
        channel.stream = stream
        if channel.state is StreamState.CANCELLING:
            self._service.cancel(stream)
        else:
            channel.state = StreamState.RUNNING

    def _refuse(self, channel: int, code: str, sentence: str, field: str | None = None) -> None:
        self._channels.pop(channel, None)
        self._service.metrics.rejected(code)
        self.send(Error(code, _cut(sentence), channel, field or ""))

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
            _drop(channel, self._service)
            self._refuse(message.channel, error.code, str(error))

    def _apply(self, message: Ready | Draft | Cancel, channel: _OpenStream) -> None:
        stream = channel.stream
        if stream is None:
            return  # Cancel while opening: done as soon as the prompt is tokenized
        match message:
            case Ready():
                stream.board_is_ready = True
            case Draft():
                draft = unpack_draft(message, self._service.target.vocab_size)
                now = asyncio.get_running_loop().time()
                stream.receive_draft(draft, message.drafting_milliseconds / 1e3, now)
            case Cancel():
                self._service.cancel(stream)
        self._service.wake()


def _drop(channel: _OpenStream, service: VerifierService) -> None:
    """Forget a stream, also one that is still being opened."""
    if channel.opening is not None:
        channel.opening.cancel()
    if channel.stream is not None:
        service.drop(channel.stream)


def _cut(sentence: str) -> str:
    return sentence[:MAX_SENTENCE_LENGTH]
