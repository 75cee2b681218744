"""The agent: keeps a link to the verifier up, drafts for its streams, generates for its clients.

Shutdown order: clients get an error, the drafting thread is interrupted, Goodbye, close.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import aiohttp

from edge_agent.draft_model.drafter import Drafter
from edge_agent.drafting.loop import DraftingLoop
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.stream import AgentStream
from edge_agent.generation.active_generation import ActiveGeneration
from edge_agent.generation.generation import Finished, GenerationRequest, TextPiece
from edge_agent.link.backoff import Backoff
from edge_agent.link.link import Link, hello_of
from shared.errors import (
    AuthRejected,
    GoodspeedError,
    HandshakeRejected,
    LinkError,
    LocalProtocolError,
    ModelError,
    RemoteProtocolError,
    RequestRefused,
    VerifierAway,
)
from shared.protocol.messages import (
    Cancel,
    Draft,
    Error,
    Opened,
    Ready,
    Verdict,
    VerifierMessage,
    Welcome,
)
from shared.protocol.session import StreamState
from shared.protocol.token_ids import unpack_id_set

logger = logging.getLogger(__name__)

# A client that is in the middle of an answer waits this long for a lost verifier to come back.
RESUME_SECONDS = 120.0


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
        self._vocab_size = drafter.vocab_size  # of the verifier
        self._special_ids: frozenset[int] = frozenset()  # of the verifier
        self._is_refused = False  # by the verifier, until it welcomes this agent
        self._generations: dict[int, ActiveGeneration] = {}  # by channel
        self._parted: list[ActiveGeneration] = []  # waiting for a new link
        self._next_channel = 0
        self._trouble: type[GoodspeedError] | None = None  # why there is no link, as was said
        self._is_stopped = False
        self._hello = hello_of(
            drafter,
            context_tokens=drafter.context_tokens,
            draft_token_seconds=draft_token_seconds,
            max_streams=drafter.num_slots,
        )

    # --- for clients ---------------------------------------------------------------------------

    @property
    def target_model(self) -> str | None:
        """The target's name, None while there is no verifier."""
        return self._target_model if self._link is not None else None

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextPiece | Finished]:
        """Pieces of text, then Finished; see `edge_agent.generation.generation.Generator`."""
        if self._link is None:
            raise self._why_away()
        if not self._link.takes_streams:
            raise VerifierAway(f"the verifier at {self._url} is shutting down")
        now = time.monotonic()
        generation = ActiveGeneration(request, self._drafter, self._settings, now)
        async with aclosing(self._events(generation)) as events:
            async for event in events:
                yield event

    async def resume(self, stream_id: int) -> AsyncIterator[TextPiece | Finished]:
        """All events of a generation that this agent had before its restart; see `Generator`."""
        if self._is_stopped or self._is_refused:
            raise self._why_away()
        request = GenerationRequest(stream_id=stream_id)
        now = time.monotonic()
        generation = ActiveGeneration(request, self._drafter, self._settings, now, is_resumed=True)
        async with aclosing(self._events(generation)) as events:
            async for event in events:
                yield event

    async def _events(
        self, generation: ActiveGeneration
    ) -> AsyncGenerator[TextPiece | Finished, None]:
        """Open it now or as soon as there is a link; closing the iterator cancels it."""
        try:
            if generation.stream.drafts:
                self._drafting.add(generation.stream)
            if self._link is not None and self._link.takes_streams:
                self._open(self._link, generation)
            else:
                self._part(generation)
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
        """Connect, and connect again; ends when cancelled, or by an exception that is a bug."""
        tasks = (
            asyncio.create_task(self._drafting.run(), name="drafting"),
            asyncio.create_task(self._keep_linked(), name="link"),
        )
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._link, self._lost_because = None, "the agent is shutting down"
            self._is_refused = False
            self._is_stopped = True
            self._fail_all(VerifierAway(self._lost_because))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _keep_linked(self) -> None:
        backoff = Backoff()
        async with aiohttp.ClientSession() as session:
            while True:
                link = Link(self._hello, self._drafter, self._receive, self._welcomed)
                started_at = time.monotonic()
                try:
                    await link.run(session, self._url, self._token)
                except (LinkError, RemoteProtocolError) as error:
                    if self._link is not None:
                        backoff.connected(time.monotonic() - started_at)
                    delay = self._lost(error, backoff)
                await self._pause(delay)

    def _lost(self, error: GoodspeedError, backoff: Backoff) -> float:
        """Note why there is no link; the seconds to wait."""
        was_linked = self._link is not None
        self._link = None
        self._lost_because = str(error)
        self._is_refused = isinstance(error, HandshakeRejected)
        if isinstance(error, AuthRejected | HandshakeRejected):
            self._fail_all(self._why_away())
        for generation in self._generations.values():
            if generation.state is not StreamState.ENDED:
                self._part(generation)
        self._generations.clear()
        retry_after = getattr(error, "retry_after_seconds", None)
        delay = backoff.delay_seconds(
            random.random(),
            retry_after,
            is_refused=isinstance(error, AuthRejected),
            is_final=self._is_refused,
            is_awaited=bool(self._parted) and not was_linked,
        )
        level = logging.DEBUG if self._trouble is type(error) else logging.WARNING
        logger.log(level, "%s; trying again in %.1f s", error, delay)
        self._trouble = type(error)
        return delay

    def _why_away(self) -> LinkError:
        """What clients are told while there is no link; a refusal will not pass by itself."""
        told = HandshakeRejected if self._is_refused else VerifierAway
        return told(self._lost_because)

    def _part(self, generation: ActiveGeneration) -> None:
        """Let a generation wait for the next link, for a while."""
        generation.parted_at = time.monotonic()
        self._parted.append(generation)

    async def _pause(self, delay_seconds: float) -> None:
        """Wait; clients that have waited long enough for the verifier are told."""
        until = time.monotonic() + delay_seconds
        while (now := time.monotonic()) < until:
            given_up = [g for g in self._parted if g.parted_at + RESUME_SECONDS <= now]
            for generation in given_up:
                self._parted.remove(generation)
                generation.fail(VerifierAway(self._lost_because))
            deadlines = [generation.parted_at + RESUME_SECONDS for generation in self._parted]
            await asyncio.sleep(min([until, *deadlines]) - now)

    def _welcomed(self, link: Link, welcome: Welcome) -> None:
        num_known = len(self._drafter.token_bytes)
        self._special_ids = unpack_id_set(welcome.special_ids, num_known)
        self._vocab_size = welcome.vocab_size
        logger.info("connected to %s at %s", welcome.target_model, self._url)
        self._link, self._trouble, self._is_refused = link, None, False
        self._target_model = welcome.target_model
        self._next_channel = 0
        parted, self._parted = self._parted, []
        for generation in parted:
            try:
                self._open(link, generation)
            except RequestRefused as error:
                generation.fail(error)

    # --- streams -------------------------------------------------------------------------------

    def _open(self, link: Link, generation: ActiveGeneration) -> None:
        """Ask for the stream.

        Raises:
            RequestRefused: it does not fit into a message.
        """
        channel = self._next_channel
        self._next_channel += 1
        generation.stream.pace.round_trip_seconds = link.round_trip_seconds
        generation.welcomed(self._vocab_size, self._special_ids)
        message = generation.open_message(channel)
        try:
            num_bytes = link.send(message)
        except LocalProtocolError as error:
            raise RequestRefused(f"the request cannot be sent: {error}") from error
        self._generations[channel] = generation
        generation.sent(message, num_bytes)

    def _end(self, generation: ActiveGeneration) -> None:
        """The client is done with it, one way or another."""
        if generation in self._parted:
            self._parted.remove(generation)
        if generation.state is not StreamState.ENDED:
            self._cancel(generation)
        if self._generations.get(generation.stream.channel) is generation:
            del self._generations[generation.stream.channel]
        self._drafting.remove(generation.stream)

    def _cancel(self, generation: ActiveGeneration) -> None:
        channel = generation.stream.channel
        if self._link is not None and self._generations.get(channel) is generation:
            self._link.send(Cancel(channel))

    def _receive(self, message: VerifierMessage, num_bytes: int) -> None:
        assert isinstance(message, Opened | Verdict | Error)
        generation = self._generations.get(message.channel) if message.channel is not None else None
        if generation is None:
            return  # cancelled here; this crossed the Cancel
        try:
            generation.receive(message, num_bytes, time.monotonic())
        except RemoteProtocolError as error:
            logger.warning("a stream ends, the verifier broke the protocol: %s", error)
            generation.fail(ModelError(f"the verifier broke the protocol: {error}"))
            self._cancel(generation)
            return
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
