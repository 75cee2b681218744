"""The agent: drafts for its streams over one link to the verifier, generates for its clients.

Shutdown order: clients get an error, the drafting thread is interrupted, Goodbye, close.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import aiohttp

from edge_agent.draft_model.drafter import Drafter
from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.drafting.loop import DraftingLoop
from edge_agent.drafting.settings import DraftSettings
from edge_agent.generation.active_generation import ActiveGeneration
from edge_agent.generation.assigned_drafts import AssignedDrafts, LoadedDraft
from edge_agent.generation.channels import Channels, read_terms
from edge_agent.generation.generation import Finished, GenerationRequest, TextPiece
from edge_agent.generation.health_reports import HealthReports
from edge_agent.generation.held_drafts import HeldDraft, HeldDrafts
from edge_agent.link.keeper import LinkEnd, LinkKeeper
from edge_agent.link.link import Link, make_hello
from edge_agent.link.target_tokenizer import TargetTokenizer
from shared.daemon.peer_text import one_line
from shared.errors import AuthRejected, GoodspeedError, HandshakeRejected, LinkError, VerifierAway
from shared.protocol.board_health import BoardHealth
from shared.protocol.messages import (
    MAX_SENTENCE_LENGTH,
    AssignedDraft,
    Assignment,
    DraftHeld,
    Status,
    VerifierMessage,
    Welcome,
)
from shared.speculation.draft_choice import OWN

logger = logging.getLogger(__name__)

FetchFrom = Callable[[AssignedDraft, str, ssl.SSLContext | None], Awaitable[LoadedDraft]]
"""Gets a draft with this token from the verifier, if that is trusted so, and loads it."""


class Agent:
    """A Generator over one verifier, and the owner of the link to it; `run` keeps it going."""

    def __init__(
        self,
        drafter: Drafter,
        settings: DraftSettings,
        *,
        url: str,
        token: str,
        draft_token_seconds: float = 0.0,
        tls: ssl.SSLContext | None = None,
        read_health: Callable[[], BoardHealth] = BoardHealth,
        fetch_draft: FetchFrom | None = None,
        draft_bytes: int = 0,
    ) -> None:
        """`tls`: which verifier is trusted; None: those whom the system trusts.

        `read_health`: of the board's hardware, called in a thread now and then. `fetch_draft`: gets
        and loads what the verifier assigns; None: nothing is taken. `draft_bytes`: of the drafter's
        file.
        """
        self._drafter = drafter = SharedVocabulary(drafter)
        self._url, self._token, self._tls = url, token, tls
        hello = make_hello(
            drafter,
            context_tokens=drafter.context_tokens,
            draft_token_seconds=draft_token_seconds,
            max_streams=drafter.num_slots,
            draft_bytes=draft_bytes,
            takes_drafts=fetch_draft is not None,
        )
        self._keeper = LinkKeeper(url, token, hello, drafter, self, tls=tls)
        self._channels: Channels[ActiveGeneration] = Channels(
            f"not connected to the verifier at {url} yet"
        )
        self.tokenizer = TargetTokenizer(url, token, lambda: drafter.token_bytes, tls)
        drafting = DraftingLoop(drafter, self._channels.send)
        drafting.draft_token_seconds = draft_token_seconds
        self._held = HeldDrafts(HeldDraft(OWN, drafter, settings, drafting))
        self._fetch_from = fetch_draft
        send = self._channels.send
        self._assigned = AssignedDrafts(self._held, self._fetch_draft, send, self._tell_draft)
        self._reports = HealthReports(read_health, self._tell_health)
        self._link: Link | None = None
        self._target_model: str | None = None
        self._trouble: type[GoodspeedError] | None = None  # why there is no link, as was said
        self._is_stopped = False
        self._is_refused = False  # by the verifier, until it welcomes this agent

    @property
    def target_model(self) -> str | None:
        """The target's name, None while there is no verifier."""
        return self._target_model

    @property
    def computing_since(self) -> float | None:
        """When the draft model began what it computes, by time.monotonic(); None: it waits."""
        return self._held.computing_since

    @property
    def status(self) -> str:
        """One line for the operator: connected to what, or why not; how fast it drafts."""
        if self._target_model is None:
            return self._channels.lost_because
        held = self._held.next()
        num_streams, seconds = self._channels.num_streams, held.loop.draft_token_seconds
        streams = "1 stream" if num_streams == 1 else f"{num_streams} streams"
        speed = f"drafting {1 / seconds:.1f} tokens/s" if seconds else "drafting from n-grams"
        if held is not self._held.own:
            speed += f" with {held.drafter.model_name}"
        health = f", {self._reports.health}" if str(self._reports.health) else ""
        target = one_line(self._target_model)
        return f"connected to {target} at {self._url}, {streams}, {speed}{health}"

    @property
    def hindrance(self) -> str:
        """What keeps all streams from their verdicts, in words; "": nothing is known to."""
        channels = self._channels
        return channels.held_because if channels.is_linked else channels.lost_because

    @property
    def max_streams(self) -> int | None:
        """How many generations the verifier takes at once; None while there is none."""
        return self._channels.terms.max_streams if self._channels.is_linked else None

    @property
    def context_tokens(self) -> int | None:
        """The most of a prompt and its answer; None while there is no verifier."""
        return self._channels.terms.context_tokens if self._channels.is_linked else None

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextPiece | Finished]:
        """Pieces of text, then Finished; see `edge_agent.generation.generation.Generator`."""
        if not self._channels.is_linked:
            raise self._why_away()
        if not self._channels.takes_streams:
            raise VerifierAway(f"the verifier at {self._url} is shutting down")
        async with aclosing(self._events(request)) as events:
            async for event in events:
                yield event

    async def resume(self, stream_id: int) -> AsyncIterator[TextPiece | Finished]:
        """All events of a generation that this agent had before its restart; see `Generator`."""
        if self._is_stopped or self._is_refused:
            raise self._why_away()
        request = GenerationRequest(stream_id=stream_id)
        async with aclosing(self._events(request, is_resumed=True)) as events:
            async for event in events:
                yield event

    async def _events(
        self, request: GenerationRequest, *, is_resumed: bool = False
    ) -> AsyncGenerator[TextPiece | Finished, None]:
        """Open it now or as soon as there is a link; closing the iterator cancels it."""
        held, now = self._held.next(), time.monotonic()
        generation = ActiveGeneration(
            request, self._drafter, held.settings, now, is_resumed=is_resumed
        )
        try:
            self._held.begin(held, generation.stream)
            self._channels.add(generation)
            while True:
                event = await generation.next_event()
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self._channels.remove(generation)
            self._assigned.note_end(self._held.end(generation.stream), generation.outcome)

    async def run(self) -> None:
        """Connect, and connect again; ends when cancelled, or by an exception that is a bug.

        Raises:
            ExceptionGroup: the bug.
        """
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._held.own.loop.run(), name="drafting")
            if self._fetch_from is not None:
                tasks.create_task(self._assigned.run(), name="drafts")
            tasks.create_task(self._keeper.run(session), name="link")
            tasks.create_task(self._reports.run(), name="health")
            try:
                await asyncio.Event().wait()  # until cancelled, or one of the tasks fails
            finally:
                self._stop()

    def _tell_health(self, health: BoardHealth) -> None:
        if self._link is not None and health != BoardHealth():
            self._link.send(Status(draft_microseconds=0, health=health))

    async def _fetch_draft(self, draft: AssignedDraft) -> LoadedDraft:
        """With the token that holds now."""
        assert self._fetch_from is not None, "drafts are followed where they can be had"
        return await self._fetch_from(draft, self._token, self._tls)

    def _tell_draft(self, message: DraftHeld) -> None:
        if self._link is not None:
            self._link.send(message)

    def _why_away(self) -> LinkError:
        """What clients are told while there is no link; a refusal will not pass by itself."""
        told = HandshakeRejected if self._is_refused else VerifierAway
        return told(self._channels.lost_because)

    def _stop(self) -> None:
        self._is_stopped = True
        self._is_refused = False
        self._target_model = None
        self._link = None
        self._channels.fail_all(VerifierAway("the agent is shutting down"))
        self._channels.detach("the agent is shutting down")

    def replace_access(self, token: str, tls: ssl.SSLContext | None) -> None:
        """Show another token, or trust another verifier, from the next connection on."""
        self._token, self._tls = token, tls
        self._keeper.replace_access(token, tls)

    @property
    def awaits_link(self) -> bool:
        """Whether a client is in the middle of an answer."""
        return self._channels.has_parted

    def take_link(self, link: Link, welcome: Welcome) -> None:
        """Take streams up again that waited for this link."""
        logger.info(
            "connected to %s at %s: connection %d, %d streams of %d tokens, vocabulary of %d",
            *(one_line(welcome.target_model), self._url, welcome.epoch),
            *(welcome.max_streams, welcome.context_tokens, welcome.vocab_size),
        )
        if welcome.keeps_texts:
            logger.warning("the verifier keeps parts of texts in memory, to make drafts of them")
        self._trouble = None
        self._held.learn_vocabulary()
        self._link = link
        self._tell_health(self._reports.health)
        self._target_model = welcome.target_model
        self._is_refused = False
        self._channels.attach(link, read_terms(welcome, len(self._drafter.token_bytes)))

    def lose_link(self, error: LinkEnd, delay_seconds: float) -> None:
        """Let streams wait; clients of a board that is refused are told at once."""
        self._target_model = None
        self._link = None
        self._is_refused = isinstance(error, HandshakeRejected)
        self._channels.lost_because = str(error)
        if isinstance(error, AuthRejected | HandshakeRejected):
            self._channels.fail_all(self._why_away())
        self._channels.detach(str(error))
        level = logging.DEBUG if self._trouble is type(error) else logging.WARNING
        sentence = one_line(error, MAX_SENTENCE_LENGTH)
        logger.log(level, "%s; trying again in %.1f s", sentence, delay_seconds)
        self._trouble = type(error)

    def receive(self, message: VerifierMessage, num_bytes: int) -> None:
        """Hand a message to its stream."""
        if isinstance(message, Assignment):
            if self._fetch_from is not None:
                self._assigned.take(message)
        elif self._channels.receive(message, num_bytes) is not None:
            self._held.wake()
