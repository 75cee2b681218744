"""Prompts far longer than a message: exact, beside others, and over broken links."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest
import torch

import edge_agent.link.backoff
import verifier.server.server
from edge_agent.draft_model.scripted_drafter import scripted_drafter
from edge_agent.generation.generation import Finished, GenerationRequest
from shared.errors import RequestRefused
from shared.protocol.messages import PART_BYTES
from shared.protocol.text import TextAssembler
from shared.speculation.sampling import GREEDY
from shared.speculation.scripted_model import ScriptedModel
from tests.support.ends.limits import make_round_settings
from tests.support.ends.long_prompt import beside_others, percentile
from tests.support.ends.loopback import (
    chat,
    generate,
    loopback,
    make_service,
    running_agent,
    running_verifier,
)
from tests.support.ends.scripted import board, scripted_service, target_text
from tests.support.models.tiny_models import VOCAB_SIZE, tiny_llama
from verifier.engine.service import VerifierService
from verifier.target.scripted_tokenizer import ScriptedTokenizer
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.loading.placement import place_target

LONG = "".join(random.Random(3).choices("abcdefghij", k=40_000))
ASKED = GenerationRequest(messages=chat(LONG), sampling=GREEDY, seed=3, max_tokens=12)


def long_service(seconds: float = 0.0) -> VerifierService:
    return scripted_service(context_tokens=1 << 16, delay_seconds=lambda _: seconds)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(verifier.server.server, "RETRY_AFTER_SECONDS", 0.02)


def test_rounds_of_others_keep_to_the_prefill_limit_while_a_long_prompt_is_read() -> None:
    rounds = asyncio.run(
        beside_others(16_384, 8, first_seconds=0.03, seconds_per_token=0.00006, alone_seconds=1.0)
    )
    assert len(rounds.seconds_beside) > 20
    # All of these rounds go to the limit (62.2 to 63.2 ms of 66 on a quiet machine), so the median
    # says as much of it as any other, and not what a test's machine did beside: at 90 % it was
    # 67 to 69 ms beside other tests. The p99 is measured by bench_long_prompt.
    alone, beside = (percentile(s, 0.5) for s in (rounds.seconds_alone, rounds.seconds_beside))
    assert beside <= 2.1 * alone


def test_a_board_whose_model_has_a_shorter_context_gets_the_exact_text_and_drafts_nothing() -> None:
    async def scenario() -> tuple[str, Finished]:
        async with loopback(long_service(), [board()]) as (_, (agent,)):
            return await generate(agent, ASKED)

    assert len(LONG) > PART_BYTES
    text, finished = asyncio.run(scenario())
    assert target_text(ASKED) == text
    assert (len(LONG), 0) == (finished.timings.prompt_tokens, finished.timings.drafted_tokens)


def test_an_answer_to_a_long_prompt_goes_on_after_a_restart_of_the_verifier() -> None:
    async def scenario() -> str:
        text = ""
        async with AsyncExitStack() as running:
            older = AsyncExitStack()
            verifier_ = await older.enter_async_context(running_verifier(long_service(0.01)))
            agent = await running.enter_async_context(running_agent(verifier_, board()))
            async for event in agent.generate(ASKED):
                if isinstance(event, Finished):
                    break
                if not text:
                    await older.aclose()
                    newer = running_verifier(long_service(), port=verifier_.port)
                    await running.enter_async_context(newer)
                text += event.text
        return text

    assert target_text(ASKED) == asyncio.run(scenario())


def test_a_prompt_beyond_the_context_is_refused_by_its_tokens_and_names_the_limit() -> None:
    async def scenario() -> str:
        async with loopback(scripted_service(context_tokens=2048), [board()]) as (_, (agent,)):
            with pytest.raises(RequestRefused) as refused:
                await generate(agent, ASKED)
            assert "messages" == refused.value.field
            return str(refused.value)

    expected = "prompt of 40000 tokens exceeds 2047 (target.context_tokens - 1)"
    assert expected == asyncio.run(scenario())


@pytest.mark.slow
def test_32k_tokens_on_a_cpu_make_the_models_own_text() -> None:
    num_tokens, num_output = 32_000, 8
    model = tiny_llama(context_tokens=32_768)
    tokenizer = ScriptedTokenizer(VOCAB_SIZE)
    text = "".join(random.Random(5).choices("abcdefghij", k=num_tokens))
    prompt_ids = tokenizer.encode_text(text)
    with torch.inference_mode():
        ids = model.generate(
            torch.tensor([prompt_ids]), max_new_tokens=num_output, do_sample=False, eos_token_id=0
        )
    assembler = TextAssembler(tokenizer.token_bytes, tokenizer.special_ids)
    expected = "".join(assembler.push(token_id) for token_id in ids[0, num_tokens:].tolist())
    target = place_target(
        tiny_llama(context_tokens=32_768),
        CacheShape(num_blocks=2048, block_tokens=16, context_tokens=32_768),
        device=torch.device("cpu"),
        dtype=torch.float32,
        model_name="tiny",
    )

    service = make_service(target, tokenizer, make_round_settings())
    asked = GenerationRequest(text=text, sampling=GREEDY, max_tokens=num_output)

    async def scenario() -> str:
        drafter = scripted_drafter(ScriptedModel(VOCAB_SIZE, seed=1))
        async with loopback(service, [drafter]) as (_, (agent,)):
            return (await generate(agent, asked))[0]

    assert expected == asyncio.run(scenario())
