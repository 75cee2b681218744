"""Ollama's API, asked by an unmodified `ollama` client: it is the judge of our shapes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge_agent.generation.generation import TextPiece
from edge_agent.generation.scripted_generator import ScriptedGenerator, Step
from shared.errors import LinkLost, VerifierAway
from tests.support.ends.api_server import HELLO, serving

ollama = pytest.importorskip("ollama")

USER: Any = [{"role": "user", "content": "hi there"}]


@asynccontextmanager
async def client_of(
    script: Sequence[Step] = HELLO, *, headers: Any = None, **options: Any
) -> AsyncIterator[tuple[Any, ScriptedGenerator]]:
    generator = ScriptedGenerator(script, target_model="target")
    async with (
        serving(generator, **options) as url,
        ollama.AsyncClient(url, headers=headers) as client,
    ):
        yield client, generator


def test_it_chats() -> None:
    async def scenario() -> None:
        async with client_of() as (client, generator):
            options = {"temperature": 0.5, "num_predict": 9, "num_ctx": 4096, "top_k": 40.0}
            answer = await client.chat("any", USER, options=options, keep_alive="5m")
            assert ("Hello wide world", "assistant") == (
                answer.message.content,
                answer.message.role,
            )
            assert (True, "stop", "target") == (answer.done, answer.done_reason, answer.model)
            assert (2, 3) == (answer.prompt_eval_count, answer.eval_count)
            assert (250_000_000, 200_000_000, 50_000_000) == (
                answer.total_duration,
                answer.prompt_eval_duration,
                answer.eval_duration,
            )
            (asked,) = generator.requests
            assert (0.5, 40, 9) == (
                asked.sampling.temperature,
                asked.sampling.top_k,
                asked.max_tokens,
            )

    asyncio.run(scenario())


def test_it_chats_in_a_stream() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            parts = [part async for part in await client.chat("any", USER, stream=True)]
            assert ["Hello", " wide", " world", ""] == [part.message.content for part in parts]
            assert [False, False, False, True] == [part.done for part in parts]
            assert (None, 3) == (parts[0].eval_count, parts[-1].eval_count)

    asyncio.run(scenario())


def test_it_generates() -> None:
    async def scenario() -> None:
        async with client_of() as (client, generator):
            answer = await client.generate("any", "Say", system="Be brief.")
            assert "Hello wide world" == answer.response
            parts = [part async for part in await client.generate("any", "Say", stream=True)]
            assert ["Hello", " wide", " world", ""] == [part.response for part in parts]
            await client.generate("any", "Once upon", raw=True)
            first, _, raw = generator.requests
            assert ["Be brief.", "Say"] == [turn.content for turn in first.messages]
            assert ("Once upon", ()) == (raw.text, raw.messages)

    asyncio.run(scenario())


def test_a_length_is_a_reason() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            answer = await client.chat("any", USER, options={"num_predict": 1})
            assert ("Hello", "length") == (answer.message.content, answer.done_reason)

    asyncio.run(scenario())


def test_it_loads_the_model_by_asking_nothing() -> None:
    async def scenario() -> None:
        async with client_of() as (client, generator):
            assert "load" == (await client.chat("any")).done_reason
            assert "load" == (await client.generate("any")).done_reason
            assert "unload" == (await client.generate("any", keep_alive=0)).done_reason
            parts = [part async for part in await client.generate("any", stream=True)]
            assert ["load"] == [part.done_reason for part in parts]
            assert [] == generator.requests

    asyncio.run(scenario())


def test_it_learns_of_the_model() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            assert ["target"] == [model.model for model in (await client.list()).models]
            (running,) = (await client.ps()).models
            assert ("target", 4096) == (running.name, running.context_length)
            for name in ("target", "target:latest"):
                shown = await client.show(name)
                assert ["completion", "tools"] == shown.capabilities
                assert 4096 == shown.modelinfo["goodspeed.context_length"]
            with pytest.raises(ollama.ResponseError, match="serves target alone") as refused:
                await client.show("llama3")
            assert 404 == refused.value.status_code

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"options": {"repeat_penalty": -1}}, "options.repeat_penalty = -1: expected number"),
        ({"options": {"temperature": "hot"}}, "options.temperature = 'hot': expected number"),
        ({"tools": [{"type": "function", "function": {"name": "x y"}}]}, "name = 'x y': must be"),
    ],
)
def test_a_refusal_names_its_field(asked: dict[str, Any], words: str) -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            with pytest.raises(ollama.ResponseError, match=words) as refused:
                await client.chat("any", USER, **asked)
            assert 400 == refused.value.status_code

    asyncio.run(scenario())


def test_failures_are_raised_before_and_in_the_middle_of_a_stream() -> None:
    async def scenario() -> None:
        async with client_of([VerifierAway("away")]) as (client, _):
            with pytest.raises(ollama.ResponseError, match="away") as failed:
                await client.chat("any", USER)
            assert 503 == failed.value.status_code
        script: list[Step] = [TextPiece("Hel", "target"), LinkLost("the verifier left")]
        async with client_of(script) as (client, _):
            parts = await client.chat("any", USER, stream=True)
            assert "Hel" == (await anext(parts)).message.content
            with pytest.raises(ollama.ResponseError, match="the verifier left"):
                await anext(parts)

    asyncio.run(scenario())


def test_its_key_is_the_api_token() -> None:
    async def scenario() -> None:
        headers = {"Authorization": "Bearer secret"}
        async with client_of(api_token="secret", headers=headers) as (client, _):
            assert ["target"] == [model.model for model in (await client.list()).models]
        async with client_of(api_token="secret") as (client, _):
            with pytest.raises(ollama.ResponseError) as refused:
                await client.list()
            assert 401 == refused.value.status_code

    asyncio.run(scenario())
