"""One connection of one device: reads its messages, keeps their order legal, writes the answers.

Used once and thrown away.  Whatever is wrong with a message ends its stream or this connection,
never anything else.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from shared.daemon.connection_gate import gated_connection_of
from shared.errors import RemoteProtocolError, RequestRefused
from shared.protocol.codec import encode
from shared.protocol.draft_packing import unpack_draft
from shared.protocol.messages import (
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
    Resume,
    Status,
    VerifierMessage,
    Welcome,
)
from shared.protocol.session import (
    VERIFIER_CONNECTION,
    VERIFIER_STREAM,
    ConnectionState,
    StreamState,
    next_state,
)
from shared.protocol.token_ids import MAX_ID_BYTES
from verifier.engine.device import Device
from verifier.engine.service import VerifierService
from verifier.server.channel import Channel
from verifier.server.device_limits import DeviceUsage
from verifier.server.greeting import ConnectionRefused, check_hello
from verifier.server.incoming import Incoming
from verifier.server.outgoing import Outgoing, Overrun
from verifier.streams.stream import Stream

logger = logging.getLogger(__name__)

# A connection that has not said Hello by then makes room for others.
HELLO_TIMEOUT_SECONDS = 10.0
# How long a board may take to read its last messages and to answer the close.
FAREWELL_SECONDS = 2.0


class DeviceConnection:
    """Drives one websocket; `run` returns when it is over."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        device: Device,
        service: VerifierService,
        usage: DeviceUsage,
    ) -> None:
        self._transport = transport
        self._device = device
        self._service = service
        self._usage = usage
        self._state = ConnectionState.GREETING
        self._channels: dict[int, Channel] = {}
        self._highest_channel = -1
        self._incoming = Incoming(
            socket, usage, lambda num_bytes: service.metrics.received(device.name, num_bytes)
        )
        opened_bytes = MAX_ID_BYTES * service.limits.context_tokens
        self._outgoing = Outgoing(
            socket,
            usage,
            usage.limits.queued_bytes(opened_bytes),
            lambda num_bytes: service.metrics.sent(device.name, num_bytes),
        )

    # --- what others call ----------------------------------------------------------------------

    def send(self, message: VerifierMessage) -> None:
        """Queue a message; a board that does not read is cut off."""
        if self._is_closed:
            return
        try:
            self._outgoing.put(encode(message))
        except Overrun as overrun:
            self._cut_off(str(overrun))

    def receive_bytes(self, num_bytes: int) -> None:
        """So many bytes came; a board that sends too many is let go."""
        try:
            self._incoming.count_bytes(num_bytes)
        except RemoteProtocolError as error:
            self._drop_streams()
            self._reject(Error(error.code, str(error)))
            self.close()

    def stream_ended(self, channel: int) -> None:
        """The last message of a channel was queued; later messages for it are ignored."""
        self._channels.pop(channel, None)

    def going_away(self, retry_after_seconds: float) -> None:
        """Tell the board that the verifier shuts down."""
        if self._state is ConnectionState.OPEN:
            self._state = ConnectionState.LEAVING
            self.send(GoingAway(retry_after_seconds))

    def replace(self) -> None:
        """End this connection because the device made a newer one; that may take its streams."""
        self._park_streams()
        self.send(Error(ErrorCode.REPLACED, "a newer connection of this device took over"))
        self.close()

    def close(self) -> None:
        """Write what is queued and end; `run` returns soon after."""
        self._incoming.stop()
        self._state = ConnectionState.CLOSED
        self._outgoing.end()

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
            self._drop_streams()
            self._reject(Error(error.code, _cut(str(error))))
        finally:
            self._park_streams()
            if self._device.outbox is self:
                self._device.outbox = None
                logger.info("device %s disconnected", self._device.name)
            self.close()
            await asyncio.wait([writer], timeout=FAREWELL_SECONDS)
            writer.cancel()
            self._transport.abort()  # what a dead peer has not read would wait for it forever
            self._outgoing.forget()

    def _reject(self, error: Error) -> None:
        self._count_rejected(error.code)
        self._warn("device %s: %s", self._device.name, error.sentence)
        gated = gated_connection_of(self._transport)
        if error.code == ErrorCode.LIMIT and gated is not None:
            gated.is_deaf = True  # whatever else it sends costs nobody anything
        self.send(error)

    def _warn(self, message: str, *values: object) -> None:
        """Log a warning, but not more than one a minute about this device."""
        log_limit = self._usage.log_limit
        if log_limit.is_due(asyncio.get_running_loop().time()):
            logger.warning(f"{message}%s", *values, log_limit.ending())  # noqa: G004 - not a value
        else:
            logger.debug(message, *values)

    def _count_rejected(self, code: str) -> None:
        self._service.metrics.rejected(code)
        self._usage.num_exceeded += code == ErrorCode.LIMIT

    def _drop_streams(self) -> None:
        for channel in self._channels.values():
            channel.drop(self._service)
        self._channels.clear()

    def _park_streams(self) -> None:
        for channel in self._channels.values():
            channel.park(self._service)
        self._channels.clear()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_SECONDS):
                message = await self._incoming.next()
        except TimeoutError:
            sentence = f"no Hello came within {HELLO_TIMEOUT_SECONDS:g} s"
            raise RemoteProtocolError(sentence, ErrorCode.LIMIT) from None
        while message is not None:
            self._receive(message)
            message = None if self._is_closed else await self._incoming.next()

    def _cut_off(self, reason: str) -> None:
        """End now, whatever the board has not read; the reader notices and cleans up."""
        self._count_rejected(ErrorCode.LIMIT)
        self._warn("device %s is cut off: %s", self._device.name, reason)
        self._state = ConnectionState.CLOSED
        self._incoming.stop()
        self._transport.abort()

    async def _write(self) -> None:
        try:
            await self._outgoing.write()
        except Overrun as overrun:
            self._cut_off(str(overrun))
        except ConnectionError:
            self._transport.abort()  # the board is gone

    # --- messages ------------------------------------------------------------------------------

    def _receive(self, message: AgentMessage) -> None:
        self._state = next_state(VERIFIER_CONNECTION, self._state, message)
        match message:
            case Hello():
                self._greet(message)
            case Open() | Resume():
                self._open(message)
            case Ready() | Draft() | Cancel():
                self._receive_for_stream(message)
            case Status():
                self._device.estimates.speed.observe_drafting(1, message.draft_microseconds / 1e6)
            case Goodbye():
                self._drop_streams()
                self._service.forget_kept(self._device)

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
                special_ids=service.packed_special_ids,
            )
        )

    def _open(self, message: Open | Resume) -> None:
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
            channel = self._channels[message.channel] = Channel()
            channel.opening = asyncio.create_task(
                self._open_stream(message, channel), name=f"open-{message.channel}"
            )

    async def _open_stream(self, message: Open | Resume, channel: Channel) -> None:
        try:
            stream = await self._service.open_stream(self._device, self, message)
            if stream is None:
                return  # it is over
            self._check_context(stream)
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

    def _check_context(self, stream: Stream) -> None:
        """Let a stream go whose tokens, with those of the others, are too many for one device."""
        streams = [stream, *(c.stream for c in self._channels.values() if c.stream is not None)]
        try:
            self._usage.check_context(sum(each.most_tokens for each in streams))
        except RemoteProtocolError:
            self._service.drop(stream)
            raise

    def _refuse(self, channel: int, code: str, sentence: str, field: str | None = None) -> None:
        self._channels.pop(channel, None)
        self._count_rejected(code)
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
            self._warn("device %s, channel %d: %s", self._device.name, message.channel, error)
            channel.drop(self._service)
            self._refuse(message.channel, error.code, str(error))

    def _apply(self, message: Ready | Draft | Cancel, channel: Channel) -> None:
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


def _cut(sentence: str) -> str:
    return sentence[:MAX_SENTENCE_LENGTH]
