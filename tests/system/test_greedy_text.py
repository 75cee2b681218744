"""Greedy text through the whole system is the target's own, token for token, on real weights."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from edge_agent.draft_model.drafter import Drafter
from edge_agent.draft_model.llama_drafter import LlamaDrafter
from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import GenerationRequest
from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors
from shared.speculation.sampling import GREEDY
from tests.support.chats.prompt_set import DRAFTS, TARGET, Prompt, prompts
from tests.support.chats.turns import turns
from tests.support.ends.loopback import chat, generate, loopback, make_service, round_settings
from tests.support.models.real_models import real_model
from tests.support.models.target_loading import load_on_cpu
from verifier.target.target import TargetModel, Tokenizer

NUM_TOKENS = 96
SOME = 5  # prompts of every run; all of them with `make test-all`
LONGEST_WINDOW = 16

pytestmark = pytest.mark.timeout(1800)  # three drafts x 16 prompts x 96 tokens on two cores


@pytest.fixture(scope="module")
def target() -> tuple[TargetModel, Tokenizer]:
    placed = load_on_cpu(real_model(TARGET), dtype="float32", kv_cache_tokens=24_576)
    return placed.target, placed.tokenizer


@pytest.fixture(scope="module")
def reference() -> Any:
    path = real_model(TARGET)
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )


def generated(
    model: Any, tokenizer: Tokenizer, asked: Sequence[Prompt], **processing: Any
) -> list[list[int]]:
    """What transformers' own `generate` makes of each prompt."""
    texts = []
    for prompt in asked:
        prompt_ids = tokenizer.encode_chat(turns([("user", prompt.text)]))
        output = model.generate(
            torch.tensor([prompt_ids]),
            attention_mask=torch.ones(1, len(prompt_ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=NUM_TOKENS,
            eos_token_id=sorted(tokenizer.end_ids),
            pad_token_id=min(tokenizer.end_ids),
            **processing,
        )
        texts.append(output[0, len(prompt_ids) :].tolist())
    return texts


@pytest.fixture
def drafters() -> Iterator[list[Drafter]]:
    made = [LlamaDrafter(real_model(name), 16, 1024, threads=1, batch_threads=2) for name in DRAFTS]
    yield list(made)
    for drafter in made:
        drafter.close()


@pytest.mark.parametrize(
    "asked",
    [prompts()[:SOME], pytest.param(prompts(), marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_greedy_text_equals_transformers_and_the_target_alone_with_every_draft_and_window(
    target: tuple[TargetModel, Tokenizer],
    reference: Any,
    drafters: list[Drafter],
    asked: Sequence[Prompt],
) -> None:
    """One batch of all streams: each prompt with three drafts at windows 0 to 16, and alone."""
    expected = generated(reference, target[1], asked)
    outputs = asyncio.run(_generate_all(target, drafters, asked))
    for i, prompt in enumerate(asked):
        for arm in range(len(drafters) + 1):
            assert expected[i] == outputs[i, arm], f"{prompt.id}, arm {arm}"


@pytest.mark.slow
def test_penalised_text_equals_that_of_transformers_own_processors(
    target: tuple[TargetModel, Tokenizer], reference: Any, drafters: list[Drafter]
) -> None:
    asked = prompts()[:2]
    # Of as many tokens, too, as the text would not have by itself.
    processing = {"repetition_penalty": 1.2, "min_new_tokens": NUM_TOKENS - 6}
    expected = generated(reference, target[1], asked, **processing)
    plain = generated(reference, target[1], asked)
    processors = LogitProcessors(repetition_penalty=1.2, min_tokens=NUM_TOKENS - 6)
    outputs = asyncio.run(_generate_all(target, drafters, asked, processors))
    for i, prompt in enumerate(asked):
        assert plain[i] != expected[i]
        for arm in range(len(drafters) + 1):
            assert expected[i] == outputs[i, arm], f"{prompt.id}, arm {arm}"


async def _generate_all(
    target: tuple[TargetModel, Tokenizer],
    drafters: list[Drafter],
    asked: Sequence[Prompt],
    processors: LogitProcessors = NO_PROCESSORS,
) -> dict[tuple[int, int], list[int]]:
    """Output ids by (prompt, arm); the last arm has speculation off."""
    settings = round_settings(max_draft_length=16, max_window=33, budget_tokens=512)
    service = make_service(*target, settings=settings)
    draft_lengths = (i % (LONGEST_WINDOW + 1) for i in count())

    async def run(agent: Agent, prompt: Prompt, draft_length: int) -> list[int]:
        request = GenerationRequest(
            messages=chat(prompt.text),
            sampling=GREEDY,
            max_tokens=NUM_TOKENS,
            draft_length=draft_length,
            processors=processors,
        )
        _, finished = await generate(agent, request)
        return list(finished.token_ids)

    async with loopback(service, drafters) as (_, agents), asyncio.TaskGroup() as group:
        tasks = {
            (i, arm): group.create_task(
                run(agents[arm % 3], prompt, next(draft_lengths) if arm < 3 else 0)
            )
            for i, prompt in enumerate(asked)
            for arm in range(len(agents) + 1)
        }
    return {key: task.result() for key, task in tasks.items()}
