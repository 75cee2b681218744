"""An agent's streams: each on a channel of the link that there is, or waiting for the next one.

This module must never connect: the keeper of the link does, and its owner tells.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from edge_agent.drafting.stream import AgentStream
from edge_agent.generation.stream_session import StreamSession
from shared.errors import (
    GoodspeedError,
    LocalProtocolError,
    RemoteProtocolError,
    RequestRefused,
    TooManyStreams,
    VerifierAway,
)
from shared.protocol.messages import (
    AgentMessage,
    Cancel,
    Draft,
    Error,
    Notice,
    Opened,
    PromptLogprobs,
    PromptPart,
    Ready,
    Resume,
    Verdict,
    VerifierMessage,
    Welcome,
)
from shared.protocol.prompt_parts import cut_open
from shared.protocol.token_ids import unpack_id_set

# Of the streams that are opened again on a new link, in one turn of the event loop; to pack one of
# 131,072 tokens takes 3 ms on a PC's core.
OPENED_BYTES_IN_A_TURN = 1 << 17
# A client that is in the middle of an answer waits this long for a lost verifier to come back.
RESUME_SECONDS = 120.0

StreamT = TypeVar("StreamT", bound=StreamSession)


class StreamLink(Protocol):
    """A link as streams see it: a real one, or one that a load test slows down."""

    @property
    def takes_streams(self) -> bool:
        """Whether new streams may be opened."""
        ...

    @property
    def round_trip_seconds(self) -> float: ...

    def send(self, message: AgentMessage) -> int:
        """Queue a message; its bytes on the wire.

        Raises:
            LocalProtocolError: the message is too long.
        """
        ...

    def send_parts(
        self, messages: Sequence[AgentMessage], is_wanted: Callable[[], bool] = ...
    ) -> int:
        """Queue the parts of a long message, as long as it is wanted; raises as `send`."""
        ...


class VerifierTerms(NamedTuple):
    """What the verifier of a link says of itself."""

    max_streams: int  # that it takes at once
    vocab_size: int  # of its target, padding too
    special_ids: frozenset[int]  # that make no text
    context_tokens: int  # of a stream, prompt and output
    takes_confidence: bool = False  # with drafts


NO_TERMS = VerifierTerms(0, 0, frozenset(), 0)


def read_terms(welcome: Welcome, num_known_ids: int) -> VerifierTerms:
    """The terms in a Welcome, for a board that knows the bytes of so many ids.

    Raises:
        RemoteProtocolError: the special ids are malformed.
    """
    special_ids = unpack_id_set(welcome.special_ids, num_known_ids)
    return VerifierTerms(
        welcome.max_streams,
        welcome.vocab_size,
        special_ids,
        welcome.context_tokens,
        welcome.takes_confidence,
    )


class Channels(Generic[StreamT]):
    """Begins without a link; `attach` and `detach` say when there is one."""

    def __init__(self, lost_because: str) -> None:
        self.lost_because = lost_because  # why there is no link, while there is none
        self.held_because = ""  # why the verifier lets all streams wait, if it does
        self._link: StreamLink | None = None
        self._streams: dict[int, StreamT] = {}  # by channel of this link
        self._parted: dict[StreamT, asyncio.TimerHandle] = {}  # when each is given up
        self._next_channel = 0
        self.terms = NO_TERMS  # of the last link

    @property
    def is_linked(self) -> bool:
        return self._link is not None

    @property
    def takes_streams(self) -> bool:
        """Whether new streams may be opened now."""
        return self._link is not None and self._link.takes_streams

    @property
    def has_parted(self) -> bool:
        """Whether a stream waits for the next link."""
        return bool(self._parted)

    @property
    def num_streams(self) -> int:
        """Those on the link and those that wait; ended ones count until they are removed."""
        return len(self._streams) + len(self._parted)

    @property
    def streams(self) -> Collection[StreamT]:
        """Those on the link."""
        return self._streams.values()

    def attach(self, link: StreamLink, terms: VerifierTerms) -> None:
        """There is a link on these terms: what waited for it is opened again."""
        self._link, self._next_channel, self.terms = link, 0, terms
        self.held_because = ""
        self._open_parted(link)

    def detach(self, because: str) -> None:
        """There is no link: streams wait for the next one, for a while."""
        self._link, self.lost_because = None, because
        for stream in self._streams.values():
            if not stream.is_over:
                self._part(stream)
        self._streams.clear()

    def add(self, stream: StreamT) -> None:
        """Open a stream now, or as soon as there is a link.

        Raises:
            RequestRefused: it does not fit into a message.
            TooManyStreams: the verifier takes no more.
        """
        is_next = not self._parted  # else others are about to be opened, and were there before
        if self._link is not None and self._link.takes_streams and is_next:
            self._open(self._link, stream)
        else:
            self._part(stream)

    def remove(self, stream: StreamT) -> None:
        """Its client is done with it; one that runs is cancelled."""
        giving_up = self._parted.pop(stream, None)
        if giving_up is not None:
            giving_up.cancel()
        if not stream.is_over:
            self._cancel(stream)
        if self._runs(stream):
            del self._streams[stream.stream.channel]

    def receive(self, message: VerifierMessage, num_bytes: int) -> StreamT | None:
        """Take a message in, mostly of a stream, and send the drafts that it made due.

        Returns:
            The stream, which may be over now; None for one that was removed before, or for none.
        """
        if isinstance(message, Notice):
            self.held_because = message.because
            return None
        assert isinstance(message, Opened | PromptPart | PromptLogprobs | Verdict | Error)
        stream = self._streams.get(message.channel) if message.channel is not None else None
        if stream is None:
            return None  # cancelled here; this crossed the Cancel
        try:
            stream.receive(message, num_bytes, time.monotonic())
        except RemoteProtocolError as error:
            stream.break_off(error)
            self._cancel(stream)
            return stream
        for draft in stream.stream.take_due_drafts():
            self.send(stream.stream, draft)
        return stream

    def send(self, stream: AgentStream, message: Ready | Draft) -> None:
        """Send for a stream, if it is on the link."""
        session = self._streams.get(stream.channel)
        if self._link is not None and session is not None and session.stream is stream:
            session.record_sent(message, self._link.send(message), time.monotonic())

    def fail_all(self, error: GoodspeedError) -> None:
        """End all streams, and forget them."""
        for giving_up in self._parted.values():
            giving_up.cancel()
        for stream in (*self._streams.values(), *self._parted):
            stream.fail(error)
        self._streams.clear()
        self._parted.clear()

    def _open_parted(self, link: StreamLink) -> None:
        """Open what waited for the link, the long ones a few in each turn of the loop."""
        num_bytes = 0
        while self._link is link and self._parted and num_bytes < OPENED_BYTES_IN_A_TURN:
            stream, giving_up = next(iter(self._parted.items()))
            del self._parted[stream]
            giving_up.cancel()
            try:
                num_bytes += self._open(link, stream)
            except (RequestRefused, TooManyStreams) as error:
                stream.fail(error)
        if self._link is link and self._parted:
            asyncio.get_running_loop().call_soon(self._open_parted, link)

    def _open(self, link: StreamLink, stream: StreamT) -> int:
        """Its bytes on the wire."""
        going_on = sum([not other.is_over for other in self._streams.values()])
        if going_on >= self.terms.max_streams:
            raise TooManyStreams(f"the device has {self.terms.max_streams} streams already")
        channel = self._next_channel
        self._next_channel += 1
        stream.stream.pace.round_trip_seconds = link.round_trip_seconds
        stream.stream.watch.is_told = self.terms.takes_confidence
        stream.learn_vocabulary(self.terms.vocab_size, self.terms.special_ids)
        message = stream.open_message(channel)
        messages = [message] if isinstance(message, Resume) else cut_open(message)
        try:
            if len(messages) == 1:
                num_bytes = link.send(message)
            else:
                num_bytes = link.send_parts(messages, lambda: self._goes_on(channel, stream))
        except LocalProtocolError as error:
            raise RequestRefused(f"the request cannot be sent: {error}") from error
        self._streams[channel] = stream
        stream.record_sent(message, num_bytes, time.monotonic())
        return num_bytes

    def _part(self, stream: StreamT) -> None:
        loop = asyncio.get_running_loop()
        self._parted[stream] = loop.call_later(RESUME_SECONDS, self._give_up, stream)

    def _give_up(self, stream: StreamT) -> None:
        del self._parted[stream]
        stream.fail(VerifierAway(self.lost_because))

    def _goes_on(self, channel: int, stream: StreamT) -> bool:
        return self._streams.get(channel) is stream and not stream.is_over

    def _runs(self, stream: StreamT) -> bool:
        return self._streams.get(stream.stream.channel) is stream

    def _cancel(self, stream: StreamT) -> None:
        if self._link is not None and self._runs(stream):
            self._link.send(Cancel(stream.stream.channel))
