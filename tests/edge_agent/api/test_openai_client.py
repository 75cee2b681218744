"""The same endpoints, asked by an unmodified `openai` client: it is the judge of our shapes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from edge_agent.api.answers.patience import Patience
from edge_agent.generation.generation import TextPiece
from edge_agent.generation.scripted_generator import ScriptedGenerator, Step
from shared.errors import HandshakeRejected, LinkLost, VerifierAway
from tests.support.ends.api_server import HELLO, serving

USER: Any = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def client_of(
    script: Sequence[Step] = HELLO, *, api_key: str = "any", **options: Any
) -> AsyncIterator[tuple[AsyncOpenAI, ScriptedGenerator]]:
    generator = ScriptedGenerator(script, target_model="target")
    async with (
        serving(generator, **options) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0) as client,
    ):
        yield client, generator


def test_it_lists_the_target() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            assert ["target"] == [model.id async for model in client.models.list()]

    asyncio.run(scenario())


def test_it_reads_a_whole_answer_with_usage() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            answer = await client.chat.completions.create(model="target", messages=USER, seed=5)
            (choice,) = answer.choices
            assert ("Hello wide world", "stop") == (choice.message.content, choice.finish_reason)
            usage = answer.usage
            assert usage is not None
            assert usage.completion_tokens_details is not None
            assert (1, 3, 4, 1) == (
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.total_tokens,
                usage.completion_tokens_details.accepted_prediction_tokens,
            )
            assert answer.model_extra is not None
            assert 3 == answer.model_extra["timings"]["predicted_n"]

    asyncio.run(scenario())


def test_it_reads_a_stream_with_usage_at_the_end() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            stream = await client.chat.completions.create(
                model="target", messages=USER, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
            assert ["", "Hello", " wide", " world", None] == texts
            assert [] == chunks[-1].choices
            assert chunks[-1].usage is not None
            assert 3 == chunks[-1].usage.completion_tokens

    asyncio.run(scenario())


def test_a_stop_string_ends_the_answer_before_it() -> None:
    async def scenario() -> None:
        async with client_of() as (client, generator):
            answer = await client.chat.completions.create(
                model="target", messages=USER, stop=[" world", "never"]
            )
            (choice,) = answer.choices
            assert ("Hello wide", "stop") == (choice.message.content, choice.finish_reason)
            assert (" world", "never") == generator.requests[0].stop

    asyncio.run(scenario())


def test_it_completes_a_plain_prompt() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            answer = await client.completions.create(model="target", prompt="Say", max_tokens=1)
            assert ("Hello", "length") == (answer.choices[0].text, answer.choices[0].finish_reason)

    asyncio.run(scenario())


def test_extensions_go_in_the_extra_body() -> None:
    async def scenario() -> None:
        async with client_of() as (client, generator):
            extension = {"goodspeed": {"acceptance_mode": "coupled", "draft_length": 0}}
            await client.chat.completions.create(model="m", messages=USER, extra_body=extension)
            (request,) = generator.requests
            assert ("coupled", 0) == (request.acceptance_mode, request.draft_length)

    asyncio.run(scenario())


def test_a_refusal_names_its_field() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(model="target", messages=USER, n=65)
            assert "n" == refused.value.param

    asyncio.run(scenario())


def test_an_absent_verifier_is_a_503() -> None:
    async def scenario() -> None:
        async with client_of([VerifierAway("the verifier is away")]) as (client, _):
            with pytest.raises(openai.InternalServerError, match="the verifier is away") as failed:
                await client.chat.completions.create(model="target", messages=USER, stream=True)
            assert 503 == failed.value.status_code

    asyncio.run(scenario())


def test_a_refusal_by_the_verifier_is_asked_for_once() -> None:
    async def scenario() -> None:
        async with client_of([HandshakeRejected("another vocabulary")]) as (client, generator):
            with pytest.raises(openai.InternalServerError, match="another vocabulary"):
                await client.with_options(max_retries=3).chat.completions.create(
                    model="target", messages=USER
                )
            assert 1 == len(generator.requests)

    asyncio.run(scenario())


def test_a_failure_in_mid_stream_is_raised() -> None:
    async def scenario() -> None:
        script: list[Step] = [TextPiece("Hel", "target"), LinkLost("the verifier left")]
        async with client_of(script) as (client, _):
            stream = await client.chat.completions.create(model="m", messages=USER, stream=True)
            chunks = [await anext(stream), await anext(stream)]
            assert ["", "Hel"] == [chunk.choices[0].delta.content for chunk in chunks]
            with pytest.raises(openai.APIError, match="the verifier left"):
                await anext(stream)

    asyncio.run(scenario())


def test_comments_in_mid_stream_are_nothing_to_it() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        patience = Patience(keepalive_seconds=0.01)
        async with client_of([HELLO[0], go_on, *HELLO[1:]], patience=patience) as (client, _):
            create: Any = client.chat.completions.create
            chunks = await create(model="any", messages=USER, stream=True)
            first = await anext(aiter(chunks))
            asyncio.get_running_loop().call_later(0.05, go_on.set)
            told = [first, *[chunk async for chunk in chunks]]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in told)
            events = await client.responses.create(model="any", input="hi", stream=True)
            go_on.clear()
            asyncio.get_running_loop().call_later(0.05, go_on.set)
            deltas = [e.delta async for e in events if e.type == "response.output_text.delta"]
        assert ["Hello wide world"] * 2 == [text, "".join(deltas)]

    asyncio.run(scenario())


def test_closing_the_stream_cancels_the_generation() -> None:
    async def scenario() -> None:
        script: list[Step] = [TextPiece("Hel", "target"), asyncio.Event()]
        async with client_of(script) as (client, generator):
            stream = await client.chat.completions.create(model="m", messages=USER, stream=True)
            await anext(stream)
            await stream.close()
            async with asyncio.timeout(5):
                await generator.was_cancelled.wait()
            assert 0 == generator.num_running

    asyncio.run(scenario())


def test_its_key_is_the_api_token() -> None:
    async def scenario() -> None:
        async with client_of(api_token="secret", api_key="secret") as (client, _):
            assert ["target"] == [model.id async for model in client.models.list()]
        async with client_of(api_token="secret", api_key="other") as (client, _):
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()

    asyncio.run(scenario())
