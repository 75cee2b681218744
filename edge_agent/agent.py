"""The agent: keeps a link to the verifier up, drafts for its streams, generates for its clients.

Shutdown order: clients get an error, the drafting thread is interrupted, Goodbye, close.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator

import aiohttp

from edge_agent import __version__
from edge_agent.active_generation import ActiveGeneration
from edge_agent.drafter import Drafter
from edge_agent.drafting import DraftingLoop
from edge_agent.generation import Finished, GenerationRequest, TextPiece
from edge_agent.link import Link
from edge_agent.reconnect import Backoff
from edge_agent.stream import AgentStream, DraftSettings
from shared.errors import (
    AuthRejected,
    GoodspeedError,
    HandshakeRejected,
    LinkError,
    RemoteProtocolError,
    VerifierAway,
)
from shared.fingerprint import fingerprint
from shared.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Draft,
    Error,
    Hello,
    Opened,
    Ready,
    Verdict,
    VerifierMessage,
    Welcome,
)
from shared.session import StreamState

logger = logging.getLogger(__name__)

# A client that is in the middle of an answer waits this long for a lost verifier to come back.
RESUME_SECONDS = 60.0


class Agent:
    """A Generator over one verifier; `run` keeps it going."""

    def __init__(
        self,
        drafter: Drafter,
        settings: DraftSettings,
        *,
        url: str,
        token: str,
        draft_token_seconds: float = 0.0,
    ) -> None:
        self._drafter = drafter
        self._settings = settings
        self._url = url
        self._token = token
        self._drafting = DraftingLoop(drafter, self._send_for_stream)
        self._link: Link | None = None
        self._lost_because = f"not connected to the verifier at {url} yet"
        self._target_model: str | None = None
        self._generations: dict[int, ActiveGeneration] = {}  # by channel
        self._parted: list[ActiveGeneration] = []  # waiting for a new link
        self._next_channel = 0
        self._hello = Hello(
            protocol_version=PROTOCOL_VERSION,
            agent_version=__version__,
            draft_model=drafter.model_name,
            vocab_size=drafter.vocab_size,
            fingerprint=fingerprint(drafter.token_bytes, drafter.special_ids),
            context_tokens=drafter.context_tokens,
            draft_microseconds=round(draft_token_seconds * 1e6),
            max_streams=drafter.num_slots,
        )

    # --- for clients ---------------------------------------------------------------------------

    @property
    def target_model(self) -> str | None:
        """The target's name, None while there is no verifier."""
        return self._target_model if self._link is not None else None

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextPiece | Finished]:
        """Pieces of text, then Finished; see `edge_agent.generation.Generator`."""
        if self._link is None or not self._link.takes_streams:
            raise VerifierAway(self._lost_because)
        now = time.monotonic()
        generation = ActiveGeneration(request, self._drafter, self._settings, now)
        self._open(self._link, generation)
        if generation.stream.drafts:
            self._drafting.add(generation.stream)
        try:
            while True:
                event = await generation.events.get()
                if isinstance(event, GoodspeedError):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self._end(generation)

    # --- the life of the agent -----------------------------------------------------------------

    async def run(self) -> None:
        """Connect, and connect again; returns only when cancelled."""
        drafting = asyncio.create_task(self._drafting.run(), name="drafting")
        try:
            async with aiohttp.ClientSession() as session:
                await self._keep_linked(session)
        finally:
            self._fail_all(VerifierAway("the agent is shutting down"))
            drafting.cancel()
            await asyncio.wait([drafting])

    async def _keep_linked(self, session: aiohttp.ClientSession) -> None:
        backoff = Backoff()
        while True:
            link = Link(self._hello, self._drafter, self._receive, self._welcomed)
            started_at = time.monotonic()
            try:
                await link.run(session, self._url, self._token)
            except (LinkError, RemoteProtocolError) as error:
                if self._link is not None:
                    backoff.connected(time.monotonic() - started_at)
                delay = self._lost(error, backoff)
            except asyncio.CancelledError:
                await link.leave()
                raise
            await self._pause(delay)

    def _lost(self, error: GoodspeedError, backoff: Backoff) -> float:
        """Note why there is no link; the seconds to wait."""
        self._link = None
        self._lost_because = str(error)
        is_refused = isinstance(error, AuthRejected | HandshakeRejected)
        for generation in list(self._generations.values()):
            if is_refused:
                generation.fail(VerifierAway(str(error)))
            else:
                generation.parted_at = time.monotonic()
                self._parted.append(generation)
        self._generations.clear()
        retry_after = getattr(error, "retry_after_seconds", None)
        delay = backoff.delay_seconds(random.random(), retry_after, is_refused=is_refused)
        level = logging.WARNING if backoff.is_first_failure else logging.DEBUG
        logger.log(level, "%s; trying again in %.1f s", error, delay)
        return delay

    async def _pause(self, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        deadline = time.monotonic() - RESUME_SECONDS
        for generation in [g for g in self._parted if g.parted_at < deadline]:
            self._parted.remove(generation)
            generation.fail(VerifierAway(self._lost_because))

    def _welcomed(self, link: Link, welcome: Welcome) -> None:
        logger.info("connected to %s at %s", welcome.target_model, self._url)
        self._link = link
        self._target_model = welcome.target_model
        self._next_channel = 0
        parted, self._parted = self._parted, []
        for generation in parted:
            self._open(link, generation)

    # --- streams -------------------------------------------------------------------------------

    def _open(self, link: Link, generation: ActiveGeneration) -> None:
        channel = self._next_channel
        self._next_channel += 1
        self._generations[channel] = generation
        generation.stream.pace.round_trip_seconds = link.round_trip_seconds
        message = generation.open_message(channel)
        generation.sent(message, link.send(message))

    def _end(self, generation: ActiveGeneration) -> None:
        """The client is done with it, one way or another."""
        if generation in self._parted:
            self._parted.remove(generation)
        channel = generation.stream.channel
        if self._generations.get(channel) is generation:
            del self._generations[channel]
            if generation.state is not StreamState.ENDED and self._link is not None:
                self._link.send(Cancel(channel))
        if generation.stream.drafts:
            self._drafting.remove(generation.stream)

    def _receive(self, message: VerifierMessage, num_bytes: int) -> None:
        assert isinstance(message, Opened | Verdict | Error)
        generation = self._generations.get(message.channel) if message.channel is not None else None
        if generation is None:
            return  # cancelled here; this crossed the Cancel
        generation.receive(message, num_bytes, time.monotonic())
        for draft in generation.stream.overdue():
            self._send_for_stream(generation.stream, draft)
        self._drafting.wake()

    def _send_for_stream(self, stream: AgentStream, message: Ready | Draft) -> None:
        generation = self._generations.get(stream.channel)
        if self._link is not None and generation is not None and generation.stream is stream:
            generation.sent(message, self._link.send(message))

    def _fail_all(self, error: GoodspeedError) -> None:
        for generation in (*self._generations.values(), *self._parted):
            generation.fail(error)
        self._generations.clear()
        self._parted.clear()
