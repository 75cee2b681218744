"""One board of a load test: a real link and real streams, but no model, thread or client.

Its drafting takes the time that a board would take, by timers of the event loop that all boards of
the fleet share.
"""

from __future__ import annotations

import asyncio
import time
from random import Random

import aiohttp

from edge_agent.draft_model.drafter import Drafter
from edge_agent.drafting.step import DraftStep
from edge_agent.fleet.delay_lane import DelayLane
from edge_agent.fleet.draft_source import Guess
from edge_agent.fleet.stream import FleetStream
from edge_agent.fleet.tally import FleetTally
from edge_agent.fleet.workload import FleetLoad
from edge_agent.link.backoff import Backoff
from edge_agent.link.link import Link
from shared.errors import (
    AuthRejected,
    GoodspeedError,
    HandshakeRejected,
    LinkError,
    RemoteProtocolError,
)
from shared.protocol.messages import (
    AgentMessage,
    Cancel,
    Draft,
    Error,
    Hello,
    Ready,
    VerifierMessage,
    Welcome,
)
from shared.protocol.token_ids import unpack_id_set


class FleetBoard:
    """Keeps `load.num_streams` streams going; `run` ends when cancelled, or by a refusal."""

    def __init__(
        self,
        number: int,
        token: str,
        hello: Hello,
        drafter: Drafter,  # its vocabulary alone is used
        guess: Guess,
        load: FleetLoad,
        tally: FleetTally,
    ) -> None:
        self._number = number
        self._token = token
        self._hello = hello
        self._drafter = drafter
        self._guess = guess
        self._load = load
        self._tally = tally
        self._random = Random(f"{load.seed}-{number}")
        self._link: Link | None = None
        self._vocab_size = drafter.vocab_size  # of the verifier
        self._special_ids: frozenset[int] = frozenset()  # of the verifier
        self._arriving: DelayLane[VerifierMessage] = DelayLane(0.0, self._take)
        self._leaving: DelayLane[AgentMessage] = DelayLane(0.0, self._hand_over)
        self._streams: dict[int, FleetStream] = {}  # by channel of this connection
        self._num_thinking = 0  # streams that are to be opened when their pause is over
        self._next_channel = 0
        self._drafting: asyncio.TimerHandle | None = None
        self._is_over = False
        self.first_outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, session: aiohttp.ClientSession, url: str) -> None:
        """Connect, and connect again after a while; ends when the verifier refuses this board."""
        backoff = Backoff()
        try:
            while True:
                link = Link(self._hello, self._drafter, self._receive, self._welcomed)
                started_at = time.monotonic()
                try:
                    await link.run(session, url, self._token)
                except (LinkError, RemoteProtocolError) as error:
                    was_linked = self._link is not None
                    self._lost(error)
                    if isinstance(error, AuthRejected | HandshakeRejected):
                        return
                    if was_linked:
                        backoff.connected(time.monotonic() - started_at)
                    retry_after = getattr(error, "retry_after_seconds", None)
                    delay = backoff.delay_seconds(self._random.random(), retry_after)
                await asyncio.sleep(delay)
        finally:
            self._is_over = True
            self._part()

    # --- the connection ------------------------------------------------------------------------

    def _welcomed(self, link: Link, welcome: Welcome) -> None:
        self._vocab_size = welcome.vocab_size
        num_known = len(self._drafter.token_bytes)
        self._special_ids = unpack_id_set(welcome.special_ids, num_known)
        self._link = link
        self._tally.num_connected += 1
        self._arriving = DelayLane(self._load.delay_seconds, self._take)
        self._leaving = DelayLane(self._load.delay_seconds, self._hand_over)
        if not self.first_outcome.done():
            self.first_outcome.set_result(None)
        parted, self._streams, self._next_channel = self._streams, {}, 0
        for stream in parted.values():
            self._open(stream)
        for _ in range(self._load.num_streams - len(parted) - self._num_thinking):
            self._open(self._new_stream())

    def _lost(self, error: GoodspeedError) -> None:
        self._tally.failed(str(error))
        self._part()
        if not self.first_outcome.done():
            self.first_outcome.set_exception(error)

    def _part(self) -> None:
        """There is no link now; the streams wait for the next one."""
        if self._link is not None:
            self._link = None
            self._tally.num_connected -= 1
        self._arriving.close()
        self._leaving.close()
        if self._drafting is not None:
            self._drafting.cancel()
            self._drafting = None

    def _receive(self, message: VerifierMessage, num_bytes: int) -> None:
        self._arriving.put(message)

    def _send(self, message: AgentMessage) -> None:
        if self._link is not None:
            self._leaving.put(message)

    def _hand_over(self, message: AgentMessage) -> None:
        if self._link is not None:
            self._link.send(message)

    # --- streams -------------------------------------------------------------------------------

    def _new_stream(self) -> FleetStream:
        load, vocab_size = self._load, self._vocab_size
        request = load.open_message(0, self._random, vocab_size, self._special_ids)
        return FleetStream(request, load, vocab_size, self._tally, self._number)

    def _open(self, stream: FleetStream) -> None:
        channel = self._next_channel
        self._next_channel += 1
        self._streams[channel] = stream
        assert self._link is not None
        round_trip = self._link.round_trip_seconds + 2 * self._load.delay_seconds
        stream.stream.pace.round_trip_seconds = round_trip
        self._send(stream.open_message(channel, time.monotonic()))

    def _open_next(self) -> None:
        """Somebody has thought and asks again; without a link, as soon as there is one."""
        self._num_thinking -= 1
        if self._link is not None and self._link.takes_streams and not self._is_over:
            self._open(self._new_stream())

    def _take(self, message: VerifierMessage) -> None:
        channel = getattr(message, "channel", None)
        stream = self._streams.get(channel) if channel is not None else None
        if channel is None or stream is None:
            return
        now = time.monotonic()
        try:
            stream.receive(message, now)
        except RemoteProtocolError as error:
            self._tally.failed(str(error))
            self._send(Cancel(channel))
            self._ended(channel)
            return
        if stream.is_over:
            if isinstance(message, Error):
                self._tally.failed(message.sentence)
            else:
                self._tally.num_streams_finished += 1
            self._ended(channel)
            return
        for draft in stream.stream.overdue():
            self._send_draft(stream, draft, now)
        self._draft_on()

    def _ended(self, channel: int) -> None:
        del self._streams[channel]
        self._num_thinking += 1
        pause = self._load.think(self._random)
        asyncio.get_running_loop().call_later(pause, self._open_next)

    # --- drafting ------------------------------------------------------------------------------

    def _draft_on(self) -> None:
        """Start what the streams want computed, all of it in one batch, unless one runs."""
        if self._drafting is not None:
            return
        jobs = []
        num_read = 0
        draws = False
        for stream in self._streams.values():
            step = stream.stream.next_step()
            if step is not None:
                jobs.append((stream, step))
                num_read += len(step.token_ids)
                draws = draws or step.spec is not None
        if jobs:
            seconds = self._load.drafting_seconds(num_read, draws=draws)
            loop = asyncio.get_running_loop()
            self._drafting = loop.call_later(seconds, self._drafted, jobs, seconds)

    def _drafted(self, jobs: list[tuple[FleetStream, DraftStep]], seconds: float) -> None:
        self._drafting = None
        now = time.monotonic()
        for stream, step in jobs:
            if stream.is_over:
                continue
            for draft in stream.computed(step, self._guess, seconds, now):
                self._send_draft(stream, draft, now)
            if stream.stream.becomes_ready():
                self._send(Ready(stream.stream.channel))
        self._draft_on()

    def _send_draft(self, stream: FleetStream, draft: Draft, now: float) -> None:
        stream.sent(draft, now)
        self._send(draft)
