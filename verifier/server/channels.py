"""The channels of one connection: streams are opened on them, and their messages handed on.

Whatever is wrong with a message ends its stream alone, but for a channel that cannot be: that ends
the connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from shared.daemon.log_output.fields import log_fields
from shared.errors import PromptTooLong, RemoteProtocolError, RequestRefused
from shared.protocol.messages import (
    MAX_SENTENCE_LENGTH,
    Cancel,
    Draft,
    Error,
    ErrorCode,
    Finish,
    Open,
    OpenPart,
    Ready,
    Resume,
    Verdict,
)
from shared.protocol.session import VERIFIER_STREAM, StreamState, next_state
from verifier.engine.device import Device, Outbox
from verifier.engine.service import VerifierService
from verifier.server.arriving_open import PART_SECONDS, ArrivingOpen
from verifier.server.channel import Channel
from verifier.server.device_limits import DeviceUsage
from verifier.server.refusals import Refusals
from verifier.streams.draft_arrival import take_draft
from verifier.streams.stream import Stream

logger = logging.getLogger(__name__)


class Channels:
    """By number; one that is not there has ended, or was never opened."""

    def __init__(
        self,
        device: Device,
        outbox: Outbox,
        service: VerifierService,
        usage: DeviceUsage,
        refusals: Refusals,
    ) -> None:
        self._device = device
        self._outbox = outbox
        self._service = service
        self._usage = usage
        self._refusals = refusals
        self._channels: dict[int, Channel] = {}
        self._highest = -1

    def __len__(self) -> int:
        """Channels whose streams have not ended, those that are still being opened included."""
        return len(self._channels)

    def stream_of(self, channel: int) -> Stream | None:
        """The stream of a channel, None while it is being opened and when it has ended."""
        found = self._channels.get(channel)
        return None if found is None else found.stream

    def discard_all(self) -> None:
        """End all streams without a last verdict."""
        for channel in self._channels.values():
            channel.discard(self._service)
        self._channels.clear()

    def park_all(self) -> None:
        """Keep all streams for a later connection of the device."""
        for channel in self._channels.values():
            channel.park(self._service)
        self._channels.clear()

    def end(self, channel: int) -> None:
        """The last message of a channel was queued; later messages for it are ignored."""
        ended = self._channels.pop(channel, None)
        if ended is not None:
            ended.stop_arriving()

    def open(self, message: Open | Resume, *, is_leaving: bool) -> None:
        """Open a stream, in a task; while leaving none, since the message crossed our GoingAway.

        Raises:
            RemoteProtocolError: the channel was used before.
        """
        if message.channel <= self._highest:
            raise RemoteProtocolError(f"channel {message.channel} was used before")
        self._highest = message.channel
        if is_leaving:
            return  # the agent opens it again on its next connection
        limit = self._service.limits.max_streams_per_device
        if len(self._channels) >= limit:
            self._refuse(
                message.channel, ErrorCode.LIMIT, f"the device has {limit} streams already"
            )
        elif isinstance(message, Open) and not message.committed and self._is_paused:
            self._refuse(message.channel, ErrorCode.PAUSED, _paused(self._device.name))
        else:
            channel = self._channels[message.channel] = Channel()
            if isinstance(message, Open) and message.goes_on:
                self._try(lambda: self._begin(message, channel), message.channel, channel)
            else:
                self._open(message, channel)

    @property
    def _is_paused(self) -> bool:
        """By an operator; streams that are there wait, no other begins."""
        return self._device.name in self._service.planner.patience.paused

    def receive(self, message: OpenPart | Ready | Draft | Cancel) -> None:
        """Hand a message to its stream.

        Raises:
            RemoteProtocolError: the channel was never opened.
        """
        if message.channel > self._highest:
            raise RemoteProtocolError(f"channel {message.channel} was never opened")
        channel = self._channels.get(message.channel)
        if channel is None:
            return  # ended; this crossed its last verdict
        self._try(lambda: self._take(message, channel), message.channel, channel)

    def _try(self, step: Callable[[], None], number: int, channel: Channel) -> None:
        """Do a step of a channel; whatever the board did wrong ends its stream."""
        try:
            step()
        except RequestRefused as error:
            channel.discard(self._service)
            self._refuse_request(number, error)
        except RemoteProtocolError as error:
            with log_fields(stream=number):
                self._refusals.warn("device %s, channel %d: %s", self._device.name, number, error)
            channel.discard(self._service)
            self._refuse(number, error.code, str(error))

    def _take(self, message: OpenPart | Ready | Draft | Cancel, channel: Channel) -> None:
        was_arriving = channel.state is StreamState.ARRIVING
        channel.state = next_state(VERIFIER_STREAM, channel.state, message)
        if isinstance(message, OpenPart):
            self._take_part(message, channel)
        elif was_arriving:
            self._cancel_arriving(message.channel, channel)
        else:
            self._apply(message, channel)

    def _open(self, message: Open | Resume, channel: Channel) -> None:
        channel.state = StreamState.OPENING
        channel.opening = asyncio.create_task(
            self._open_stream(message, channel), name=f"open-{message.channel}"
        )

    def _begin(self, message: Open, channel: Channel) -> None:
        """An Open that goes on; its stream reads what is here of a prompt that is given by ids."""
        if any(other.arriving is not None for other in self._channels.values()):
            sentence = "another prompt of this connection is still on its way"
            raise RemoteProtocolError(sentence, ErrorCode.LIMIT)
        service, number = self._service, message.channel
        channel.state = StreamState.ARRIVING
        channel.arriving = ArrivingOpen(
            message, service.limits.context_tokens, lambda: self._give_up(number, channel)
        )
        stream = service.begin_stream(self._device, self._outbox, message)
        if stream is not None:
            self._check_context(stream)
            channel.stream = stream

    def _take_part(self, part: OpenPart, channel: Channel) -> None:
        assert channel.arriving is not None, "the table lets no other part through"
        whole = channel.arriving.take(part)
        if channel.stream is not None:
            self._service.extend_stream(channel.stream, part)
        if whole is None:
            return
        channel.stop_arriving()
        if channel.stream is None:
            self._open(whole, channel)
            return
        channel.state = StreamState.RUNNING
        self._service.complete_stream(channel.stream, self._outbox, whole)

    def _cancel_arriving(self, number: int, channel: Channel) -> None:
        channel.stop_arriving()
        if channel.stream is not None:
            self._service.cancel(channel.stream)
        else:
            self._outbox.send(Verdict(number, 0, 0, b"", finish=Finish("cancelled", 0)))
            self.end(number)

    def _give_up(self, number: int, channel: Channel) -> None:
        channel.discard(self._service)
        self._refuse(number, ErrorCode.LIMIT, f"no part of the prompt came for {PART_SECONDS:g} s")

    async def _open_stream(self, message: Open | Resume, channel: Channel) -> None:
        try:
            stream = await self._service.open_stream(self._device, self._outbox, message)
            if stream is None:
                return  # it is over
            self._check_context(stream)
        except RequestRefused as error:
            self._refuse_request(message.channel, error)
            return
        except RemoteProtocolError as error:
            self._refuse(message.channel, error.code, str(error))
            return
        except Exception:
            with log_fields(stream=message.channel):
                logger.exception("device %s: a stream could not be opened", self._device.name)
            self._refuse(message.channel, ErrorCode.MODEL, "the stream could not be opened")
            return
        channel.stream = stream
        if channel.state is StreamState.CANCELLING:
            self._service.cancel(stream)
        else:
            channel.state = StreamState.RUNNING

    def _check_context(self, stream: Stream) -> None:
        """Discard a stream whose tokens, with those of the others, are too many for one device."""
        streams = [stream, *(c.stream for c in self._channels.values() if c.stream is not None)]
        try:
            self._usage.check_context(sum(each.most_tokens for each in streams))
        except RemoteProtocolError:
            self._service.discard(stream)
            raise

    def _refuse_request(self, channel: int, error: RequestRefused) -> None:
        lengths = (0, 0)
        if isinstance(error, PromptTooLong):
            lengths = (error.num_tokens, error.most_tokens)
        self._refuse(channel, ErrorCode.REQUEST, str(error), error.field or "", lengths)

    def _refuse(
        self,
        channel: int,
        code: ErrorCode,
        sentence: str,
        field: str = "",
        prompt_lengths: tuple[int, int] = (0, 0),
    ) -> None:
        self.end(channel)
        self._refusals.count(code)
        sentence = sentence[:MAX_SENTENCE_LENGTH]
        self._outbox.send(Error(code, sentence, channel, field, None, *prompt_lengths))

    def _apply(self, message: Ready | Draft | Cancel, channel: Channel) -> None:
        stream = channel.stream
        if stream is None:
            return  # Cancel while opening: done as soon as the prompt is tokenized
        match message:
            case Ready():
                stream.board_is_ready = True
                self._device.let_draft(stream, message.draft)
            case Draft():
                # The clock of rounds: a loop's own may stand still while it takes what has come.
                now = time.monotonic()
                take_draft(stream, message, self._service.target.vocab_size, now)
            case Cancel():
                self._service.cancel(stream)
        self._service.wake()


def _paused(device: str) -> str:
    goes_on = f"`goodspeed-verifier devices resume {device}` there lets it go on"
    return f"the verifier's operator has paused this board: {goes_on}"
