"""The Messages API, asked by an unmodified `anthropic` client: it is the judge of our shapes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge_agent.api.answers.patience import Patience
from edge_agent.generation.generation import TextPiece
from edge_agent.generation.scripted_generator import ScriptedGenerator, Step
from shared.errors import LinkLost, PromptTooLong, TooManyStreams, VerifierAway
from tests.support.ends.api_server import HELLO, serving

anthropic = pytest.importorskip("anthropic")

USER: Any = [{"role": "user", "content": "hi there"}]
ASKED: dict[str, Any] = {"model": "any", "max_tokens": 50, "messages": USER}


@asynccontextmanager
async def client_of(
    script: Sequence[Step] = HELLO, *, api_key: str = "any", **options: Any
) -> AsyncIterator[tuple[Any, ScriptedGenerator]]:
    generator = ScriptedGenerator(script, target_model="target")
    async with (
        serving(generator, **options) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key=api_key, max_retries=0) as client,
    ):
        yield client, generator


def test_it_reads_a_whole_message() -> None:
    async def scenario() -> None:
        async with client_of() as (client, generator):
            message = await client.messages.create(
                **ASKED, system="Be brief.", extra_body={"temperature": 0.5}
            )
            assert ["Hello wide world"] == [block.text for block in message.content]
            assert ("end_turn", None, "assistant", "target") == (
                message.stop_reason,
                message.stop_sequence,
                message.role,
                message.model,
            )
            assert (4, 0, 3) == (
                message.usage.input_tokens,
                message.usage.cache_read_input_tokens,
                message.usage.output_tokens,
            )
            (asked,) = generator.requests
            roles = [turn.role for turn in asked.messages]
            expected = (["system", "user"], 50, 0.5)
            assert expected == (roles, asked.max_tokens, asked.sampling.temperature)

    asyncio.run(scenario())


def test_it_reads_a_stream_and_makes_the_same_message_of_it() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _), client.messages.stream(**ASKED) as stream:
            texts = [text async for text in stream.text_stream]
            message = await stream.get_final_message()
            assert ["Hello", " wide", " world"] == texts
            assert "Hello wide world" == message.content[0].text
            assert ("end_turn", 2, 3) == (
                message.stop_reason,
                message.usage.input_tokens,
                message.usage.output_tokens,
            )

    asyncio.run(scenario())


def test_its_events_come_in_order() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            stream = await client.messages.create(**ASKED, stream=True)
            kinds = [event.type async for event in stream]
        assert [
            *("message_start", "content_block_start"),
            *["content_block_delta"] * 3,
            *("content_block_stop", "message_delta", "message_stop"),
        ] == kinds

    asyncio.run(scenario())


def test_pings_keep_it_waiting() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        patience = Patience(keepalive_seconds=0.01)
        async with (
            client_of([go_on, *HELLO], patience=patience) as (client, _),
            client.messages.stream(**ASKED) as stream,
        ):
            assert "Hello wide world" == await stream.get_final_text()

    asyncio.run(scenario())


def test_a_stop_sequence_is_told() -> None:
    async def scenario() -> None:
        async with client_of() as (client, _):
            message = await client.messages.create(**ASKED, stop_sequences=[" world"])
            assert ("Hello wide", "stop_sequence", " world") == (
                message.content[0].text,
                message.stop_reason,
                message.stop_sequence,
            )
            message = await client.messages.create(**{**ASKED, "max_tokens": 1})
            assert ("Hello", "max_tokens") == (message.content[0].text, message.stop_reason)

    asyncio.run(scenario())


def test_errors_are_its_own() -> None:
    async def raised(error: Any, kind: type[Exception], **asked: Any) -> str:
        async with client_of([error]) as (client, _):
            with pytest.raises(kind) as failed:
                await client.messages.create(**{**ASKED, **asked})
            body: dict[str, Any] = failed.value.body  # type: ignore[attr-defined]
            assert "error" == body["type"]
            return f"{body['error']['type']}: {body['error']['message']}"

    async def scenario() -> None:
        bad, limited = anthropic.BadRequestError, anthropic.RateLimitError
        sentence = await raised(HELLO[0], bad, tools=[{"name": "a b", "input_schema": {}}])
        assert sentence.startswith("invalid_request_error: tools[0].name = 'a b': must be of 1 to")
        long = PromptTooLong("too long", "messages", 900, 800)
        sentence = "invalid_request_error: prompt is too long: 900 tokens > 800 maximum"
        assert sentence == await raised(long, bad)
        assert "rate_limit_error: full" == await raised(TooManyStreams("full"), limited)
        away = await raised(VerifierAway("away"), anthropic.InternalServerError)
        assert "overloaded_error: away" == away

    asyncio.run(scenario())


def test_a_failure_in_mid_stream_is_raised() -> None:
    async def scenario() -> None:
        script: list[Step] = [TextPiece("Hel", "target"), LinkLost("the verifier left")]
        async with client_of(script) as (client, _):
            stream = await client.messages.create(**ASKED, stream=True)
            with pytest.raises(anthropic.APIStatusError, match="the verifier left"):
                async for _ in stream:
                    pass

    asyncio.run(scenario())


def test_its_key_is_the_api_token() -> None:
    async def scenario() -> None:
        async with client_of(api_token="secret", api_key="secret") as (client, _):
            assert ["target"] == [model.id async for model in client.models.list()]
            assert "target" == (await client.models.retrieve("target")).display_name
        async with client_of(api_token="secret", api_key="other") as (client, _):
            with pytest.raises(anthropic.AuthenticationError):
                await client.messages.create(**ASKED)

    asyncio.run(scenario())
