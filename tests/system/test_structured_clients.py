"""Unmodified clients ask for a form in their own words and get it, through both ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import ollama
import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

from tests.support.ends.api_server import serving
from tests.support.ends.loopback import loopback
from tests.support.models.text_vocabulary import text_board, text_service

USER: Any = [{"role": "user", "content": "hi"}]
SAMPLED: Any = {"temperature": 1.0, "seed": 4}


class Pet(BaseModel, extra="forbid"):
    name: str = Field(max_length=6)
    age: int = Field(ge=0, le=30)
    kind: Literal["ab", "abc"]
    tags: list[Literal["12", "99"]] = Field(max_length=2)


@asynccontextmanager
async def api() -> AsyncIterator[str]:
    async with (
        loopback(text_service(), [text_board()]) as (_, (agent,)),
        serving(agent) as url,
    ):
        yield url


@asynccontextmanager
async def openai_client() -> AsyncIterator[AsyncOpenAI]:
    async with (
        api() as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client


def test_openais_parse_gives_an_object_of_the_model_class() -> None:
    async def scenario() -> None:
        async with openai_client() as client:
            for seed in range(8):
                answer = await client.chat.completions.parse(
                    model="any", messages=USER, response_format=Pet, temperature=1.0, seed=seed
                )
                pet = answer.choices[0].message.parsed
                assert isinstance(pet, Pet)
                assert "stop" == answer.choices[0].finish_reason
            response = await client.responses.parse(
                model="any", input="hi", text_format=Pet, temperature=1.0
            )
            assert isinstance(response.output_parsed, Pet)

    asyncio.run(scenario())


def test_openais_streamed_parse_ends_with_the_object() -> None:
    async def scenario() -> None:
        async with (
            openai_client() as client,
            client.chat.completions.stream(
                model="any", messages=USER, response_format=Pet, **SAMPLED
            ) as stream,
        ):
            final = await stream.get_final_completion()
            assert isinstance(final.choices[0].message.parsed, Pet)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"response_format": {"type": "json_object"}}, dict),
        ({"guided_choice": ["12", "99"]}, int),
        ({"guided_regex": "[0-9]{3}"}, int),
        ({"grammar": 'root ::= "[" ("12" | "99") "]"'}, list),
        ({"structured_outputs": {"json": Pet.model_json_schema()}}, dict),
    ],
)
def test_other_servers_words_are_followed_too(extra: dict[str, Any], expected: type) -> None:
    async def scenario() -> None:
        async with openai_client() as client:
            answer = await client.chat.completions.create(
                model="any", messages=USER, max_tokens=400, extra_body=extra, **SAMPLED
            )
            assert isinstance(json.loads(answer.choices[0].message.content or ""), expected)

    asyncio.run(scenario())


def test_what_cannot_be_followed_names_the_clients_own_field() -> None:
    async def scenario() -> None:
        async with openai_client() as client:
            schema = {"name": "x", "schema": {"type": "string", "minLength": 3, "maxLength": 1}}
            with pytest.raises(openai.BadRequestError, match="Unsatisfiable schema") as refused:
                await client.chat.completions.create(
                    model="any",
                    messages=USER,
                    response_format={"type": "json_schema", "json_schema": schema},  # type: ignore[arg-type]
                )
            assert "response_format.json_schema.schema" == refused.value.param

    asyncio.run(scenario())


def test_anthropics_and_ollamas_clients_get_what_their_schema_says() -> None:
    schema = Pet.model_json_schema()

    async def scenario() -> None:
        async with api() as url:
            async with AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client:
                message = await client.messages.create(
                    model="any",
                    max_tokens=400,
                    messages=USER,
                    output_config={"format": {"type": "json_schema", "schema": schema}},
                )
                (block,) = message.content
                Pet.model_validate_json(block.text)  # type: ignore[union-attr]
            # Without annotations for leaving its context.
            async with ollama.AsyncClient(url) as client:  # type: ignore[attr-defined]
                answer = await client.chat("any", USER, format=schema)
            Pet.model_validate_json(answer.message.content or "")

    asyncio.run(scenario())
