"""SmolLM2 fills a schema in: every answer satisfies it, and drafts change no letter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from edge_agent.draft_model.llama_drafter import LlamaDrafter
from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import Finished, GenerationRequest
from shared.protocol.grammar import Grammar
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.chats.prompt_set import DRAFTS, TARGET
from tests.support.ends.loopback import chat, generate, loopback, make_service, round_settings
from tests.support.models.real_models import real_model
from tests.support.models.target_loading import load_on_cpu
from verifier.target.target import TargetModel, Tokenizer

ANIMALS = ("a cat", "an owl", "a whale", "a bee", "a horse", "a frog", "a fox", "a hen")
KINDS = ["mammal", "bird", "insect", "fish", "amphibian"]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "kind": {"enum": KINDS},
        "number_of_legs": {"type": "integer", "minimum": 0, "maximum": 8},
    },
    "required": ["name", "kind", "number_of_legs"],
    "additionalProperties": False,
}

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def target() -> tuple[TargetModel, Tokenizer]:
    placed = load_on_cpu(real_model(TARGET), dtype="float32", kv_cache_tokens=16_384)
    return placed.target, placed.tokenizer


@pytest.fixture
def drafter() -> Iterator[LlamaDrafter]:
    drafter = LlamaDrafter(real_model(DRAFTS[0]), 32, 512, threads=1, batch_threads=1)
    yield drafter
    drafter.close()


def asking(animal: str, seed: int, draft_length: int | None) -> GenerationRequest:
    return GenerationRequest(
        messages=chat(f"Describe {animal} as JSON with name, kind and number_of_legs."),
        sampling=SamplingParameters(0.8) if seed else GREEDY,
        seed=seed,
        max_tokens=80,
        draft_length=draft_length,
        grammar=Grammar("json_schema", json.dumps(SCHEMA)),
    )


@pytest.mark.parametrize("num_clients", [1, 8, pytest.param(32, marks=pytest.mark.slow)])
def test_each_answer_satisfies_the_schema_and_is_the_same_with_drafts_and_without(
    target: tuple[TargetModel, Tokenizer], drafter: LlamaDrafter, num_clients: int
) -> None:
    async def all_of(agent: Agent, draft_length: int | None) -> list[tuple[str, Finished]]:
        requests = [asking(ANIMALS[i % len(ANIMALS)], i, draft_length) for i in range(num_clients)]
        return await asyncio.gather(*(generate(agent, request) for request in requests))

    async def run() -> tuple[list[tuple[str, Finished]], list[tuple[str, Finished]]]:
        service = make_service(*target, settings=round_settings())
        async with loopback(service, [drafter]) as (_, (agent,)):
            return await all_of(agent, 4), await all_of(agent, 0)

    drafted, alone = asyncio.run(run())
    assert [text for text, _ in alone] == [text for text, _ in drafted]
    for (text, finished), (_, finished_alone) in zip(drafted, alone, strict=True):
        assert finished.token_ids == finished_alone.token_ids
        value = json.loads(text)
        assert list(SCHEMA["properties"]) == list(value)  # type: ignore[call-overload]
        assert 1 <= len(value["name"]) <= 20
        assert value["kind"] in KINDS
        assert 0 <= value["number_of_legs"] <= 8
        assert finished.timings.num_verdicts < len(finished.token_ids), "nothing was forced"
