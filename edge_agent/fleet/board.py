"""One board of a load test: a real link and real streams, but no model, thread or client.

Its drafting takes the time that a board would take, by timers of the event loop that all boards of
the fleet share.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from random import Random

import aiohttp

from edge_agent.draft_model.drafter import Drafter
from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.drafting.step import DraftStep
from edge_agent.fleet.delayed_link import DelayedLink
from edge_agent.fleet.draft_source import Guess
from edge_agent.fleet.stream import FleetStream
from edge_agent.fleet.tally import FleetTally
from edge_agent.fleet.workload import FleetLoad
from edge_agent.generation.channels import NO_TERMS, Channels, read_terms
from edge_agent.link.keeper import LinkEnd, LinkKeeper
from edge_agent.link.link import Link
from shared.errors import AuthRejected, HandshakeRejected
from shared.protocol.messages import Hello, Ready, VerifierMessage, Welcome


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
        self._drafter = SharedVocabulary(drafter)
        self._guess = guess
        self._load = load
        self._tally = tally
        self._random = Random(f"{load.seed}-{number}")
        self._link: DelayedLink | None = None
        self._channels: Channels[FleetStream] = Channels("not connected yet")
        self._terms = NO_TERMS  # of the latest link
        self._num_thinking = 0  # streams that are to be opened when their pause is over
        self._drafting: asyncio.TimerHandle | None = None
        self._is_over = False
        self.first_outcome: asyncio.Future[LinkEnd | None] = (
            asyncio.get_running_loop().create_future()
        )

    async def run(self, session: aiohttp.ClientSession, url: str) -> None:
        """Connect, and connect again after a while; ends when the verifier refuses this board."""
        keeper = LinkKeeper(url, self._token, self._hello, self._drafter, self, self._random.random)
        try:
            with suppress(AuthRejected, HandshakeRejected):
                await keeper.run(session)
        finally:
            self._is_over = True
            self._unlink("the load test is over")

    @property
    def awaits_link(self) -> bool:
        """Whether a stream is in the middle of its output, as a client's answer would be."""
        return self._channels.has_parted

    def take_link(self, link: Link, welcome: Welcome) -> None:
        """Take streams up again, and open those that are missing."""
        self._tally.num_connected += 1
        self._link = DelayedLink(link, self._load.delay_seconds, self._take)
        self._tell_outcome(None)
        self._terms = read_terms(welcome, len(self._drafter.token_bytes))
        self._channels.attach(self._link, self._terms)
        num_missing = self._load.num_streams - self._channels.num_streams - self._num_thinking
        for _ in range(num_missing):
            self._channels.add(self._new_stream())

    def lose_link(self, error: LinkEnd, delay_seconds: float) -> None:
        """Let streams wait for the next link; raises a refusal, after which there is none."""
        self._tally.record_failure(str(error))
        self._unlink(str(error))
        self._tell_outcome(error)
        if isinstance(error, AuthRejected | HandshakeRejected):
            raise error

    def receive(self, message: VerifierMessage, num_bytes: int) -> None:
        """A message came over the real link: it arrives after the delay of the load test."""
        if self._link is not None:
            self._link.receive(message, num_bytes)

    def _tell_outcome(self, error: LinkEnd | None) -> None:
        if not self.first_outcome.done():
            self.first_outcome.set_result(error)

    def _unlink(self, because: str) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
            self._tally.num_connected -= 1
        self._channels.detach(because)
        if self._drafting is not None:
            self._drafting.cancel()
            self._drafting = None

    def _take(self, message: VerifierMessage, num_bytes: int) -> None:
        stream = self._channels.receive(message, num_bytes)
        if stream is None:
            return
        if stream.is_over:
            self._channels.remove(stream)
            self._think()
        else:
            self._draft_on()

    def _new_stream(self) -> FleetStream:
        load, terms = self._load, self._terms
        request = load.draw_request(self._random, terms.vocab_size, terms.special_ids)
        return FleetStream(
            request, load, terms.vocab_size, self._tally, self._number, time.monotonic()
        )

    def _think(self) -> None:
        self._num_thinking += 1
        pause = self._load.draw_pause_seconds(self._random)
        asyncio.get_running_loop().call_later(pause, self._ask_again)

    def _ask_again(self) -> None:
        """The pause is over; without a link, the next one brings a new stream."""
        self._num_thinking -= 1
        if self._channels.takes_streams and not self._is_over:
            self._channels.add(self._new_stream())

    def _draft_on(self) -> None:
        """Start what the streams want computed, all of it in one batch, unless one runs."""
        if self._drafting is not None:
            return
        jobs = []
        num_read = 0
        draws = False
        for stream in self._channels.streams:
            step = stream.stream.next_step()
            if step is not None:
                jobs.append((stream, step))
                num_read += len(step.token_ids)
                draws = draws or step.spec is not None
        if jobs:
            seconds = self._load.drafting_seconds(num_read, draws=draws)
            loop = asyncio.get_running_loop()
            self._drafting = loop.call_later(seconds, self._finish_steps, jobs, seconds)

    def _finish_steps(self, jobs: list[tuple[FleetStream, DraftStep]], seconds: float) -> None:
        self._drafting = None
        now = time.monotonic()
        for stream, step in jobs:
            if stream.is_over:
                continue
            for draft in stream.finish_step(step, self._guess, seconds, now):
                self._channels.send(stream.stream, draft)
            if stream.stream.take_ready():
                self._channels.send(stream.stream, Ready(stream.stream.channel))
        self._draft_on()
