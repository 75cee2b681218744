"""What a board does about an assignment, without a verifier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.drafting.loop import DraftingLoop
from edge_agent.drafting.stream import AgentStream
from edge_agent.generation.assigned_drafts import AssignedDrafts, LoadedDraft
from edge_agent.generation.draft_watch import StreamOutcome
from edge_agent.generation.held_drafts import HeldDraft, HeldDrafts
from shared.protocol.messages import AssignedDraft, Assignment, DraftHeld
from shared.speculation.draft_choice import OWN
from shared.speculation.sampling import SamplingParameters
from tests.support.ends.loopback import DRAFT_SETTINGS
from tests.support.ends.scripted import board
from tests.support.ends.waiting import eventually

WREN, FINCH = (AssignedDraft(name, 9, name.encode().ljust(32, b".")) for name in ("wren", "finch"))
WORSE = StreamOutcome(num_survived=1, num_rejected=300)


class Board:
    """Its drafts, and what it told the verifier."""

    def __init__(self) -> None:
        drafter = SharedVocabulary(board())
        loop = DraftingLoop(drafter, lambda stream, message: None)
        self.held = HeldDrafts(HeldDraft(OWN, drafter, DRAFT_SETTINGS, loop))
        self.told: list[DraftHeld] = []
        self.fetched: list[str] = []
        self.assigned = AssignedDrafts(
            self.held, self.fetch, lambda stream, message: None, self.told.append
        )

    async def fetch(self, draft: AssignedDraft) -> LoadedDraft:
        self.fetched.append(draft.name)
        return LoadedDraft(board(), 0.002)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.assigned.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def holds(self, *drafts: AssignedDraft) -> None:
        wanted = {draft.sha256 for draft in drafts}
        await eventually(lambda: self.held.assigned.keys() == wanted)

    def stream(self) -> AgentStream:
        chosen = self.held.next()
        stream = AgentStream(0, 64, chosen.settings, SamplingParameters(), drafts=True)
        self.held.begin(chosen, stream)
        return stream


def test_it_tells_the_number_and_the_speed_of_what_it_holds() -> None:
    async def scenario() -> None:
        one = Board()
        async with one.running():
            one.assigned.take(Assignment((WREN, FINCH), (2,)))
            await one.holds(WREN, FINCH)
            assert [
                DraftHeld(WREN.sha256, 1, 2000),
                DraftHeld(FINCH.sha256, 2, 2000),
            ] == one.told
            assert FINCH.sha256 == one.held.next().sha256
            one.assigned.take(Assignment((WREN, FINCH), (1,)))
            assert one.told[:2] == one.told[2:], "said again at once, nothing is fetched again"
            assert ["wren", "finch"] == one.fetched

    asyncio.run(scenario())


def test_two_names_of_one_file_are_one_draft() -> None:
    async def scenario() -> None:
        one = Board()
        twin = AssignedDraft("twin", 9, WREN.sha256)
        async with one.running():
            one.assigned.take(Assignment((WREN, twin, FINCH), (3,)))
            await one.holds(WREN, FINCH)
            assert FINCH.sha256 == one.held.next().sha256

    asyncio.run(scenario())


def test_what_it_gave_up_is_used_again_when_it_is_assigned_anew_while_a_stream_has_it() -> None:
    async def scenario() -> None:
        one = Board()
        async with one.running():
            one.assigned.take(Assignment((WREN,), (1,)))
            await one.holds(WREN)
            stream = one.stream()
            one.assigned.note_end(one.held.assigned[WREN.sha256], WORSE)
            assert one.held.own is one.held.next()
            assert "are accepted" in one.told[-1].because
            one.assigned.take(Assignment((WREN,), (1,)))
            assert one.held.own is one.held.next(), "the same assignment is no new one"
            one.assigned.take(Assignment())
            one.assigned.take(Assignment((WREN,), (1,)))
            assert WREN.sha256 == one.held.next().sha256
            assert DraftHeld(WREN.sha256, 1, 2000) == one.told[-1]
            one.held.end(stream)

    asyncio.run(scenario())


def test_a_turn_beyond_what_is_assigned_is_passed_over() -> None:
    async def scenario() -> None:
        one = Board()
        async with one.running():
            one.assigned.take(Assignment((WREN,), (4, 0)))
            await one.holds(WREN)
            assert one.held.own is one.held.next()

    asyncio.run(scenario())
