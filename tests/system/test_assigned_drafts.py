"""An operator assigns drafts, boards take them live; texts stay the target's own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge_agent.draft_model.drafter import Drafter
from edge_agent.generation.agent import Agent
from edge_agent.generation.assigned_drafts import LoadedDraft
from edge_agent.generation.draft_watch import StreamOutcome
from edge_agent.generation.generation import GenerationRequest
from shared.errors import LinkLost, ModelError
from shared.protocol.messages import AssignedDraft, Assignment
from shared.speculation.draft_choice import OWN
from shared.speculation.sampling import SamplingParameters
from tests.support.ends.loopback import (
    DRAFT_SETTINGS,
    Verifier,
    chat,
    generate,
    running_agent,
    running_verifier,
)
from tests.support.ends.scripted import board, scripted_service, target_text
from tests.support.ends.waiting import eventually
from verifier.drafts.draft_store import DraftStore
from verifier.drafts.kept_draft import KeptDraft
from verifier.engine.device_terms import AllTerms, DeviceTerms, DraftChoiceRule
from verifier.server.drafts.draft_shelf import DraftShelf

GREEDY = SamplingParameters(temperature=0.0)


def request(seed: int = 1, max_tokens: int = 60) -> GenerationRequest:
    return GenerationRequest(
        messages=chat(f"hi {seed}"), sampling=GREEDY, seed=seed, max_tokens=max_tokens
    )


class Source:
    """Gives boards scripted drafts in place of files."""

    def __init__(self) -> None:
        self.disagreement = {"good": 0.05, "bad": 0.9}
        self.faults: dict[str, Exception] = {}
        self.fetched: list[str] = []
        self.made: list[Drafter] = []

    async def fetch(
        self, draft: AssignedDraft, token: str, tls: ssl.SSLContext | None
    ) -> LoadedDraft:
        self.fetched.append(draft.name)
        if draft.name in self.faults:
            raise self.faults[draft.name]
        drafter = board(self.disagreement[draft.name])
        drafter.model_name = draft.name
        self.made.append(drafter)
        return LoadedDraft(drafter, 0.001)


class House:
    """A verifier with a registry, and one board."""

    def __init__(self, directory: Path) -> None:
        self.source = Source()
        self.store = DraftStore(directory / "drafts")
        for name in ("good", "bad"):
            path = directory / name
            path.write_bytes(name.encode())
            self.store.add(name, path, lambda path, sha, size: KeptDraft(sha, size, "v"))
        self.shelf = DraftShelf(lambda path: None, bytes_per_second=1e9, store=self.store)

    @asynccontextmanager
    async def running(self, delay: float = 0.0) -> AsyncIterator[tuple[Verifier, Agent]]:
        service = scripted_service(delay_seconds=lambda _: delay)
        async with (
            running_verifier(service, drafts=self.shelf) as verifier,
            running_agent(
                verifier, board(0.5), settings=DRAFT_SETTINGS, fetch_draft=self.source.fetch
            ) as agent,
        ):
            yield verifier, agent

    @staticmethod
    def assign(verifier: Verifier, *names: str, rule: DraftChoiceRule = "first") -> None:
        assigned = verifier.server.assigned_drafts
        assert assigned is not None
        terms = DeviceTerms(drafts=names, draft_choice=rule)
        assigned.take_over(AllTerms({"board": terms}))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def held_by(verifier: Verifier) -> list[str]:
    return [held.draft.name for held in verifier.service.device("board").held.values()]


def test_a_board_takes_an_assigned_draft_for_new_streams_and_no_stream_ends(house: House) -> None:
    async def scenario() -> None:
        async with house.running(delay=0.02) as (verifier, agent):
            running = asyncio.create_task(generate(agent, request(1, 200)))
            await eventually(lambda: agent._channels.num_streams == 1)
            house.assign(verifier, "good")
            await eventually(lambda: held_by(verifier) == ["good"])
            assert not running.done()
            assert target_text(request(2)) == (await generate(agent, request(2)))[0]
            assert target_text(request(1, 200)) == (await running)[0]
            device = verifier.service.device("board")
            own, good = device.own_estimates, next(iter(device.held.values())).estimates
            assert "good" == device.draft_in_use
            assert own.acceptance.num_observed
            assert good.acceptance.num_observed, "what its drafts came to counts for it alone"
            assert "with good" in agent.status

    asyncio.run(scenario())


def test_what_is_assigned_no_more_is_closed_once_its_last_stream_has_ended(house: House) -> None:
    async def scenario() -> None:
        async with house.running(delay=0.02) as (verifier, agent):
            house.assign(verifier, "good")
            await eventually(lambda: held_by(verifier) == ["good"])
            running = asyncio.create_task(generate(agent, request(1, 200)))
            await eventually(
                lambda: bool(agent._held.assigned) and agent._channels.num_streams == 1
            )
            house.assign(verifier)
            text, _ = await generate(agent, request(2))
            assert target_text(request(2)) == text
            assert agent._held.assigned, "a stream still has it"
            assert target_text(request(1, 200)) == (await running)[0]
            await eventually(lambda: not agent._held.assigned)
            house.assign(verifier, "good")
            await eventually(lambda: bool(agent._held.assigned))
            assert ["good", "good"] == house.source.fetched

    asyncio.run(scenario())


def test_a_draft_that_cannot_be_had_is_told_and_the_own_one_goes_on(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.source.faults["good"] = ModelError("good has the sha256 1 instead of 2: pull it again")

    async def scenario() -> None:
        async with house.running(delay=0.02) as (verifier, agent):
            house.assign(verifier, "good")
            await eventually(lambda: "does not use good: good has the sha256 1" in caplog.text)
            text, finished = await generate(agent, request())
            assert target_text(request()) == text
            assert finished.timings.drafted_tokens
            assert ["good"] == house.source.fetched
            assert [] == held_by(verifier)

    asyncio.run(scenario())


def test_a_draft_with_another_vocabulary_is_refused_by_the_board_too(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    class Foreign(Source):
        async def fetch(
            self, draft: AssignedDraft, token: str, tls: ssl.SSLContext | None
        ) -> LoadedDraft:
            loaded = await super().fetch(draft, token, tls)
            token_bytes = list(loaded.drafter.token_bytes)
            token_bytes[9], token_bytes[8] = token_bytes[8], token_bytes[9]
            loaded.drafter.token_bytes = token_bytes  # type: ignore[misc]
            return loaded

    house.source = Foreign()

    async def scenario() -> None:
        async with house.running() as (verifier, agent):
            house.assign(verifier, "good")
            sentence = "its token id 8 means something else than the target's"
            await eventually(lambda: f"does not use good: {sentence}" in caplog.text)
            assert target_text(request()) == (await generate(agent, request()))[0]

    asyncio.run(scenario())


def test_a_cut_fetch_is_gone_on_with(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.generation.assigned_drafts.RETRY_SECONDS", 0.05)
    house.source.faults["good"] = LinkLost("good ended after 1 of 4 bytes")

    async def scenario() -> None:
        async with house.running() as (verifier, _):
            house.assign(verifier, "good")
            await eventually(lambda: len(house.source.fetched) == 3)
            house.source.faults.clear()
            await eventually(lambda: held_by(verifier) == ["good"])

    asyncio.run(scenario())


def test_a_board_that_comes_back_still_has_its_drafts(house: House) -> None:
    async def scenario() -> None:
        async with house.running(delay=0.02) as (verifier, agent):
            house.assign(verifier, "good")
            await eventually(lambda: held_by(verifier) == ["good"])
            device = verifier.service.device("board")
            before = next(iter(device.held.values())).estimates
            running = asyncio.create_task(generate(agent, request(1, 200)))
            await eventually(lambda: agent._channels.num_streams == 1)
            assert device.outbox is not None
            epoch = device.epoch
            device.outbox._socket.abort()  # type: ignore[attr-defined]
            await eventually(lambda: device.epoch > epoch and held_by(verifier) == ["good"])
            assert target_text(request(1, 200)) == (await running)[0]
            assert device.estimates is before
            assert ["good"] == house.source.fetched

    asyncio.run(scenario())


def test_what_the_registry_loses_and_gains_boards_lose_and_gain(house: House) -> None:
    async def scenario() -> None:
        async with house.running() as (verifier, agent):
            house.assign(verifier, "good", "bad")
            await eventually(lambda: sorted(held_by(verifier)) == ["bad", "good"])
            house.store.remove("good")
            assert verifier.server.assigned_drafts is not None
            verifier.server.assigned_drafts.look_again()
            await eventually(lambda: len(agent._held.assigned) == 1)
            assert target_text(request()) == (await generate(agent, request()))[0]

    asyncio.run(scenario())


async def answer(agent: Agent, seed: int) -> None:
    """One whose text is checked."""
    assert target_text(request(seed)) == (await generate(agent, request(seed)))[0]


def test_new_streams_try_a_draft_in_turn_and_each_says_which_it_has(house: House) -> None:
    async def scenario() -> None:
        async with house.running(delay=0.01) as (verifier, agent):
            house.assign(verifier, "good", rule="measured")
            await eventually(lambda: held_by(verifier) == ["good"])
            device = verifier.service.device("board")
            (good,) = device.held.values()
            used = []
            for seed in range(1, 5):
                await answer(agent, seed)
                used.append(device.estimates is good.estimates)
            assert [False, True, True, False] == used
            assert good.draft.sha256 == device.choice.standing.candidate

    asyncio.run(scenario())


def test_a_draft_that_is_proven_to_be_faster_takes_all_streams(house: House) -> None:
    async def scenario() -> None:
        async with house.running(delay=0.005) as (verifier, agent):
            house.assign(verifier, "good", rule="measured")
            await eventually(lambda: held_by(verifier) == ["good"])
            device = verifier.service.device("board")
            (good,) = device.held.values()
            # What many streams would show; the rates of real ones hang on this machine's load.
            for _ in range(8):
                device.choice.observe(OWN, 10.0)
                device.choice.observe(good.draft.sha256, 20.0)
            await answer(agent, 1)  # its end tells the board
            await eventually(lambda: agent._held.next() is not agent._held.own)
            for seed in range(2, 5):
                await answer(agent, seed)
                assert device.estimates is good.estimates

    asyncio.run(scenario())


def test_a_worse_draft_is_dropped_by_the_verifier(house: House) -> None:
    async def scenario() -> None:
        async with house.running(delay=0.005) as (verifier, agent):
            house.assign(verifier, "bad", rule="measured")
            await eventually(lambda: held_by(verifier) == ["bad"])
            device = verifier.service.device("board")
            (bad,) = device.held.values()
            for _ in range(8):
                device.choice.observe(OWN, 20.0)
                device.choice.observe(bad.draft.sha256, 10.0)
            await answer(agent, 1)
            await eventually(lambda: agent._held.next() is agent._held.own)
            assert (OWN,) == device.choice.turns
            for seed in range(2, 6):
                await answer(agent, seed)
                assert device.estimates is device.own_estimates

    asyncio.run(scenario())


def test_a_board_goes_back_to_its_own_draft_by_itself(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """The verifier is told to use the bad draft, whatever is measured."""

    async def scenario() -> None:
        async with house.running(delay=0.005) as (verifier, agent):
            house.assign(verifier, "bad")
            await eventually(lambda: held_by(verifier) == ["bad"])
            sha256 = next(iter(agent._held.assigned))
            await answer(agent, 1)
            outcome = StreamOutcome(num_survived=10, num_rejected=300)
            agent._assigned.note_end(agent._held.assigned[sha256], outcome)
            assert agent._held.own is agent._held.next()
            await eventually(lambda: "does not use bad: 3% of its tokens" in caplog.text)
            await eventually(lambda: not agent._held.assigned)
            await answer(agent, 2)
            assert ["bad"] == house.source.fetched, "it is not fetched again"

    asyncio.run(scenario())


def test_a_board_that_takes_no_drafts_ignores_them(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        service = scripted_service(delay_seconds=lambda _: 0.01)
        async with (
            running_verifier(service, drafts=house.shelf) as verifier,
            running_agent(verifier, board(0.5)) as agent,
        ):
            house.assign(verifier, "good")
            said = "device board takes no drafts: draft.assigned_megabytes is 0 on the board"
            await eventually(lambda: said in caplog.text)
            outbox = verifier.service.device("board").outbox
            assert outbox is not None
            outbox.send(Assignment((AssignedDraft("good", 4, b"s" * 32),), (1,)))
            await answer(agent, 1)
            assert {} == agent._held.assigned
            assert [] == held_by(verifier)

    asyncio.run(scenario())
