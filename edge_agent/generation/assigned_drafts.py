"""Follows what the verifier assigns: fetches drafts, lets streams have them, gives them up again.

Streams that run are never touched: a draft is closed once its last stream has ended. A draft that
cannot be had, or is none for this target, changes nothing but a sentence to the verifier. This
module must never know how a draft is fetched or loaded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

import msgspec

from edge_agent.draft_model.drafter import Drafter
from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.drafting.loop import DraftingLoop, SendDraft
from edge_agent.generation.draft_watch import DraftWatch, StreamOutcome
from edge_agent.generation.held_drafts import HeldDraft, HeldDrafts
from shared.daemon.peer_text import one_line
from shared.errors import AuthRejected, GoodspeedError, LinkError, ModelError
from shared.protocol.messages import (
    MAX_SENTENCE_LENGTH,
    AssignedDraft,
    Assignment,
    DraftHeld,
)
from shared.speculation.draft_choice import OWN

logger = logging.getLogger(__name__)

# A fetch that was cut goes on after a while; the link itself may be down as well.
RETRY_SECONDS = 20.0


class LoadedDraft(msgspec.Struct, frozen=True):
    """A draft that is ready, and what it takes for one token."""

    drafter: Drafter
    token_seconds: float


FetchDraft = Callable[[AssignedDraft], Awaitable[LoadedDraft]]
"""Gets and loads a draft; raises LinkError where another attempt may help, or ModelError."""


class AssignedDrafts:
    """Of one agent; `run` does what takes long."""

    def __init__(
        self,
        held: HeldDrafts,
        fetch: FetchDraft,
        send_draft: SendDraft,
        tell: Callable[[DraftHeld], None],
    ) -> None:
        self._held = held
        self._fetch = fetch
        self._send_draft = send_draft
        self._tell = tell
        self._wanted: dict[bytes, AssignedDraft] = {}
        self._failed: dict[bytes, str] = {}  # why, until it is assigned no more
        self._watch = DraftWatch()
        self._seconds: dict[bytes, float] = {}  # for a token, of those that are held
        self._loops: dict[bytes, asyncio.Task[None]] = {}
        self._has_news = asyncio.Event()

    def take(self, assignment: Assignment) -> None:
        """What the verifier says now; what is held already is told at once."""
        self._wanted = {draft.sha256: draft for draft in assignment.drafts}
        self._failed = {key: why for key, why in self._failed.items() if key in self._wanted}
        self._watch.forget_all_but(set(self._wanted))
        places = (OWN, *(draft.sha256 for draft in assignment.drafts))
        self._held.take_turns(
            tuple(places[turn] for turn in assignment.turns if turn < len(places))
        )
        for sha256 in self._wanted:
            if sha256 in self._failed:
                self._tell(DraftHeld(sha256, because=self._failed[sha256]))
            elif sha256 in self._held.assigned:
                held = self._held.assigned[sha256]
                held.is_stopped = False  # it may have been given up, and is assigned anew
                self._tell_held(held)
        self._has_news.set()

    def note_end(self, held: HeldDraft | None, outcome: StreamOutcome) -> None:
        """A stream with this draft came to that; a draft that is proven to be worse is given up."""
        if held is None:
            return
        because = self._watch.observe(held.sha256, outcome)
        wanted = self._wanted.get(held.sha256)
        if because is not None and wanted is not None and held.sha256 not in self._failed:
            held.is_stopped = True
            self._fail(wanted, because)
        if held.sha256 != OWN and not held.streams:
            self._has_news.set()

    async def run(self) -> NoReturn:
        """Fetch and give up drafts until cancelled."""
        try:
            async with asyncio.TaskGroup() as loops:
                while True:
                    self._has_news.clear()
                    await self._give_up()
                    is_cut = await self._fetch_missing(loops)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(RETRY_SECONDS if is_cut else None):
                            await self._has_news.wait()
        finally:
            for held in self._held.assigned.values():
                held.drafter.close()
        raise AssertionError("the loop ends by cancellation alone")

    async def _give_up(self) -> None:
        for sha256, held in self._held.assigned.items():
            is_wanted = sha256 in self._wanted and sha256 not in self._failed
            if not is_wanted and not held.streams:
                self._held.let_go(sha256)
                loop = self._loops.pop(sha256)
                loop.cancel()
                await asyncio.wait([loop])
                held.drafter.close()
                logger.info("the draft %s is given up", held.drafter.model_name)

    async def _fetch_missing(self, loops: asyncio.TaskGroup) -> bool:
        """Whether one was cut, so that another attempt may help."""
        is_cut = False
        for sha256, draft in tuple(self._wanted.items()):
            is_known = sha256 in self._held.assigned or sha256 in self._failed
            if is_known or sha256 not in self._wanted:  # the verifier spoke meanwhile
                continue
            try:
                loaded = await self._fetch(draft)
                self._hold(draft, loaded, loops)
            except AuthRejected as error:
                self._fail(draft, str(error))
            except LinkError as error:
                logger.warning("the draft %s has not come whole: %s", draft.name, one_line(error))
                is_cut = True
            except GoodspeedError as error:
                self._fail(draft, str(error))
        return is_cut

    def _hold(self, draft: AssignedDraft, loaded: LoadedDraft, loops: asyncio.TaskGroup) -> None:
        drafter = SharedVocabulary(loaded.drafter)
        target_bytes = self._held.own.drafter.token_bytes
        contradiction = drafter.contradiction(target_bytes)
        if contradiction is not None:
            drafter.close()
            raise ModelError(f"its token id {contradiction} means something else than the target's")
        drafter.take_vocabulary(target_bytes)
        loop = DraftingLoop(drafter, self._send_draft)
        loop.draft_token_seconds = loaded.token_seconds
        held = self._held.hold(draft.sha256, drafter, loop)
        self._loops[draft.sha256] = loops.create_task(loop.run(), name=f"drafting-{draft.name}")
        self._seconds[draft.sha256] = loaded.token_seconds
        logger.info("the draft %s is ready for new streams", draft.name)
        self._tell_held(held)

    def _tell_held(self, held: HeldDraft) -> None:
        seconds = self._seconds[held.sha256]
        self._tell(DraftHeld(held.sha256, held.loop.draft_number, round(seconds * 1e6)))

    def _fail(self, draft: AssignedDraft, because: str) -> None:
        because = one_line(because, MAX_SENTENCE_LENGTH)
        logger.warning("the draft %s is not used: %s", draft.name, because)
        self._failed[draft.sha256] = because
        self._tell(DraftHeld(draft.sha256, because=because))
