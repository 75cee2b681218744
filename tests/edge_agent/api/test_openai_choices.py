"""Several choices, several prompts, echo and no token at all, read by an unmodified client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from edge_agent.api.answers.choices import MAX_AT_ONCE
from edge_agent.generation.generation import TextPiece
from edge_agent.generation.scripted_generator import ScriptedGenerator, Step
from shared.errors import ModelError
from tests.support.ends.api_server import HELLO, serving
from tests.support.ends.loopback import running_agent, running_verifier
from tests.support.ends.scripted import VOCAB_SIZE, board, scripted_service

USER: Any = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def client_of(
    script: Sequence[Step] = HELLO, **options: Any
) -> AsyncIterator[tuple[AsyncOpenAI, ScriptedGenerator]]:
    generator = ScriptedGenerator(script, target_model="target", **options)
    async with (
        serving(generator) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client, generator


def test_a_chat_has_as_many_choices_as_are_wanted_and_one_usage() -> None:
    async def scenario() -> None:
        async with client_of() as (client, generator):
            answer = await client.chat.completions.create(model="any", messages=USER, n=3, seed=5)
            assert [0, 1, 2] == [choice.index for choice in answer.choices]
            texts = [choice.message.content for choice in answer.choices]
            assert ["Hello wide world"] * 3 == texts
            assert [5, 6, 7] == sorted(request.seed or 0 for request in generator.requests)
            assert answer.usage is not None
            counts = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
            assert (1, 9, 10) == (*counts, answer.usage.total_tokens)

    asyncio.run(scenario())


def test_streamed_choices_come_side_by_side_each_with_its_index_and_its_end() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            texts, reasons, roles = ["", ""], ["", ""], [0, 0]
            usages = []
            stream = await client.chat.completions.create(
                model="any",
                messages=USER,
                n=2,
                stream=True,
                stream_options={"include_usage": True},
            )
            async for chunk in stream:
                if not chunk.choices:
                    usages.append(chunk.usage)
                for choice in chunk.choices:
                    texts[choice.index] += choice.delta.content or ""
                    roles[choice.index] += choice.delta.role is not None
                    reasons[choice.index] += choice.finish_reason or ""
            assert (["Hello wide world"] * 2, ["stop"] * 2, [1, 1]) == (texts, reasons, roles)
            assert [6] == [usage.completion_tokens for usage in usages if usage is not None]

    asyncio.run(scenario())


def test_several_prompts_are_answered_in_their_order_with_their_echo() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            wanted: dict[str, Any] = {"model": "any", "prompt": ["a:", "b:"], "n": 2, "echo": True}
            answer = await client.completions.create(**wanted)
            expected = [
                *["a:Hello wide world"] * 2,
                *["b:Hello wide world"] * 2,
            ]
            assert expected == [choice.text for choice in answer.choices]
            assert answer.usage is not None
            assert (2, 12) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
            texts = [""] * 4
            async for chunk in await client.completions.create(stream=True, **wanted):
                for choice in chunk.choices:
                    texts[choice.index] += choice.text
            assert expected == texts

    asyncio.run(scenario())


def test_one_prompt_is_echoed_whole_and_streamed() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            answer = await client.completions.create(model="any", prompt="So: ", echo=True)
            assert "So: Hello wide world" == answer.choices[0].text
            pieces = [
                chunk.choices[0].text
                async for chunk in await client.completions.create(
                    model="any", prompt="So: ", echo=True, stream=True
                )
            ]
            assert ("So: ", "So: Hello wide world") == (pieces[0], "".join(pieces))

    asyncio.run(scenario())


@pytest.mark.parametrize("fields", [{}, {"n": 2}, {"echo": True}])
def test_without_a_token_the_prompt_is_read_and_nothing_is_written(fields: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with client_of() as (client, generator):
            wanted: dict[str, Any] = {"model": "any", "prompt": "So", "max_tokens": 0, **fields}
            answer = await client.completions.create(**wanted)
            text = "So" if fields.get("echo") else ""
            for choice in answer.choices:
                assert (text, "length") == (choice.text, choice.finish_reason)
            assert answer.usage is not None
            assert (1, 0) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
            assert {1} == {request.max_tokens for request in generator.requests}
            chunks = [
                chunk.choices[0]
                async for chunk in await client.completions.create(stream=True, **wanted)
            ]
            assert {"", text} >= {chunk.text for chunk in chunks}
            assert "length" == chunks[-1].finish_reason

    asyncio.run(scenario())


def test_the_first_choice_that_fails_ends_all_and_nothing_runs_on() -> None:
    async def scenario() -> None:
        script = (TextPiece("x", "target"), ModelError("the target failed"))
        async with client_of(script) as (client, generator):
            with pytest.raises(openai.InternalServerError, match="the target failed"):
                await client.chat.completions.create(model="any", messages=USER, n=4)
            assert 0 == generator.num_running

    asyncio.run(scenario())


def test_one_request_takes_only_so_many_places_at_once() -> None:
    async def scenario() -> None:
        async with client_of(max_streams=64, seconds_per_piece=0.001) as (client, generator):
            answer = await client.completions.create(model="any", prompt="x", n=40)
            assert 40 == len(answer.choices)
            assert MAX_AT_ONCE == generator.most_running

    asyncio.run(scenario())


# --- at a verifier --------------------------------------------------------------------------------


def test_choices_differ_by_their_seeds_and_a_prompt_of_ids_is_read_as_it_is() -> None:
    async def scenario() -> None:
        async with (
            running_verifier(scripted_service()) as verifier,
            running_agent(verifier, board(0.1)) as agent,
            serving(agent) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
        ):
            wanted: dict[str, Any] = {"model": "any", "max_tokens": 8, "temperature": 1}
            both = await client.completions.create(prompt=[3, 4, 5], n=2, seed=3, **wanted)
            texts = [choice.text for choice in both.choices]
            alone = [
                await client.completions.create(prompt=[3, 4, 5], seed=seed, **wanted)
                for seed in (3, 4)
            ]
            assert [answer.choices[0].text for answer in alone] == texts
            assert texts[0] != texts[1]
            assert both.usage is not None
            assert (3, 16) == (both.usage.prompt_tokens, both.usage.completion_tokens)
            for prompt in ([VOCAB_SIZE], [1, 1 << 23]):
                with pytest.raises(openai.BadRequestError, match="the target has 64") as refused:
                    await client.completions.create(prompt=prompt, **wanted)
                assert "prompt" == refused.value.param

    asyncio.run(scenario())
