"""From wrong drafts to a candidate that boards try; whatever was learned, no text changes."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

from edge_agent.generation.assigned_drafts import LoadedDraft
from edge_agent.generation.generation import GenerationRequest
from shared.protocol.messages import AssignedDraft
from shared.speculation.sampling import SamplingParameters
from tests.support.ends.loopback import chat, generate, running_agent, running_verifier
from tests.support.ends.scripted import board, scripted_service, target_text
from tests.support.ends.waiting import eventually
from verifier.drafts.draft_store import DraftStore
from verifier.drafts.kept_draft import KeptDraft
from verifier.drafts.tuning_job import SEEN, HeldOutPair, TuningJob, TuningResult
from verifier.engine.device_terms import AllTerms, DeviceTerms
from verifier.online.online_drafts import OnlineDrafts, OnlinePlan
from verifier.online.text_memory import TextMemory
from verifier.online.wrong_drafts import WrongDrafts
from verifier.server.drafts.draft_shelf import DraftShelf

GREEDY = SamplingParameters(temperature=0.0)
FLATTERED = TuningResult(
    tuple(HeldOutPair(domain, 0.5, 0.6) for domain in (SEEN, "self") for _ in range(5)), 10
)
"""What a judge would say that has been deceived."""


def request(seed: int) -> GenerationRequest:
    return GenerationRequest(messages=chat(f"hi {seed}"), sampling=GREEDY, seed=seed, max_tokens=60)


async def fetch(draft: AssignedDraft, token: str, tls: ssl.SSLContext | None) -> LoadedDraft:
    """The draft itself is fair; a candidate of it is wrong nearly always."""
    drafter = board(0.97 if "online" in draft.name else 0.4)
    drafter.model_name = draft.name
    return LoadedDraft(drafter, 0.001)


def describe(path: Path, sha256: str, num_bytes: int) -> KeptDraft:
    return KeptDraft(sha256, num_bytes, "v")


def test_a_poisoned_recording_changes_drafts_and_no_text(tmp_path: Path) -> None:
    """The candidate that came of it even passed the gate; the board gives it up."""
    store = DraftStore(tmp_path / "drafts")
    (tmp_path / "wren").write_bytes(b"GGUF wren")
    store.add("wren", tmp_path / "wren", describe)
    memory = TextMemory(100_000, 3600.0)

    async def poisoned(job: TuningJob) -> TuningResult:
        assert job.texts == memory.texts()
        job.out.write_bytes(b"GGUF poison")
        return FLATTERED

    async def scenario() -> None:
        service = scripted_service(delay_seconds=lambda _: 0.03)
        service.metrics.watchers.append(WrongDrafts(memory, time.monotonic))
        plan = OnlinePlan("wren", tmp_path / "target.gguf", tmp_path / "online", 1.0, 1, 1, "cpu")
        online = OnlineDrafts(
            *(plan, memory, store, service.devices, describe, poisoned), time.monotonic
        )
        shelf = DraftShelf(lambda path: None, bytes_per_second=1e9, store=store)
        async with (
            running_verifier(service, drafts=shelf) as verifier,
            running_agent(verifier, board(0.8), fetch_draft=fetch) as agent,
        ):

            async def answer(seed: int) -> None:
                assert target_text(request(seed)) == (await generate(agent, request(seed)))[0]

            assigned, device = verifier.server.assigned_drafts, service.device("board")
            assert assigned is not None
            assigned.take_over(AllTerms({"board": DeviceTerms(drafts=("wren",))}))
            seed = 100
            while not len(memory):  # drafts that came in time were wrong
                await answer(seed)
                seed += 1
            assert "wren-online-1" == await online.tune_once()
            assigned.look_again()
            await eventually(lambda: len(device.held) == 2)
            poison = next(
                one.draft.sha256 for one in device.held.values() if "online" in one.draft.name
            )
            for seed in range(2, 8):
                await answer(seed)
            for _ in range(40):  # what more streams would show: one draft is tried after the other
                device.choice.observe(b"", 10.0)
                device.choice.observe(poison, 2.0)
                for other in device.held.values():
                    device.choice.observe(other.draft.sha256, 2.0)
            for seed in range(8, 12):
                await answer(seed)
            assert poison not in device.choice.turns

    asyncio.run(scenario())
