"""The Responses API, asked by an unmodified `openai` client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from edge_agent.generation.generation import TextPiece
from edge_agent.generation.scripted_generator import ScriptedGenerator, Step
from shared.errors import LinkLost, VerifierAway
from tests.support.ends.api_server import HELLO, serving


@asynccontextmanager
async def client_of(
    script: Sequence[Step] = HELLO, **options: Any
) -> AsyncIterator[tuple[AsyncOpenAI, ScriptedGenerator]]:
    generator = ScriptedGenerator(script, target_model="target")
    async with (
        serving(generator, **options) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client, generator


def test_it_reads_a_whole_response() -> None:
    async def scenario() -> None:
        async with client_of() as (client, generator):
            response = await client.responses.create(
                model="any", input="hi there", instructions="Be brief.", metadata={"a": "b"}
            )
            assert ("Hello wide world", "completed") == (response.output_text, response.status)
            assert {"a": "b"} == response.metadata
            usage = response.usage
            assert usage is not None
            assert (4, 3, 7) == (usage.input_tokens, usage.output_tokens, usage.total_tokens)
            roles = [(turn.role, turn.content) for turn in generator.requests[0].messages]
            assert [("system", "Be brief."), ("user", "hi there")] == roles

    asyncio.run(scenario())


def test_a_whole_conversation_is_asked_anew_with_what_came_back() -> None:
    async def scenario() -> None:
        async with client_of() as (client, generator):
            first = await client.responses.create(model="any", input="hi")
            turns: Any = [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                *(item.model_dump() for item in first.output),
                {"role": "user", "content": "and?"},
            ]
            second = await client.responses.create(model="any", input=turns)
            assert "Hello wide world" == second.output_text
            contents = [turn.content for turn in generator.requests[1].messages]
            assert ["hi", "Hello wide world", "and?"] == contents

    asyncio.run(scenario())


def test_it_reads_a_stream_and_makes_the_same_response_of_it() -> None:
    async def scenario() -> None:
        async with (
            client_of() as (client, _),
            client.responses.stream(model="any", input="hi") as stream,
        ):
            events = [event async for event in stream]
            response = await stream.get_final_response()
        kinds = [event.type for event in events]
        assert [
            *("response.created", "response.in_progress", "response.output_item.added"),
            *("response.content_part.added", *["response.output_text.delta"] * 3),
            *("response.output_text.done", "response.content_part.done"),
            *("response.output_item.done", "response.completed"),
        ] == kinds
        assert [*range(len(events))] == [event.sequence_number for event in events]
        assert ("Hello wide world", "completed") == (response.output_text, response.status)
        assert response.usage is not None

    asyncio.run(scenario())


def test_an_answer_that_was_cut_off_is_incomplete() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            asked: Any = {"model": "any", "input": "hi", "max_output_tokens": 1}
            response = await client.responses.create(**asked)
            assert ("Hello", "incomplete") == (response.output_text, response.status)
            assert response.incomplete_details is not None
            assert "max_output_tokens" == response.incomplete_details.reason
            stream = await client.responses.create(**asked, stream=True)
            assert "response.incomplete" == [event.type async for event in stream][-1]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"type": "message", "role": "king", "content": "x"}]}, "input[0].role"),
    ],
)
def test_what_needs_a_memory_or_more_than_text_is_refused_by_name(
    fields: dict[str, Any], param: str
) -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(**{"model": "any", "input": "hi", **fields})
            assert param == refused.value.param

    asyncio.run(scenario())


def test_what_is_not_followed_is_named() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            raw = await client.responses.with_raw_response.create(
                model="any",
                input="hi",
                text={"format": {"type": "text"}, "verbosity": "low"},
                reasoning={"summary": "auto"},
                truncation="auto",
                store=True,
            )
            expected = "truncation, text.verbosity, reasoning.summary"
            assert expected == raw.headers["X-Goodspeed-Ignored"]

    asyncio.run(scenario())


def test_failures_are_raised_before_and_in_the_middle_of_a_stream() -> None:
    async def scenario() -> None:
        async with client_of([VerifierAway("away")]) as (client, _):
            with pytest.raises(openai.InternalServerError, match="away"):
                await client.responses.create(model="any", input="hi", stream=True)
        script: list[Step] = [TextPiece("Hel", "target"), LinkLost("the verifier left")]
        async with client_of(script) as (client, _):
            stream = await client.responses.create(model="any", input="hi", stream=True)
            with pytest.raises(openai.APIError, match="the verifier left"):
                async for _ in stream:
                    pass

    asyncio.run(scenario())
