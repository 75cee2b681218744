"""A target of random weights calls what clients demand, in their dialects, through both ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from shared.protocol.messages import OutputFormat
from tests.support.ends.forms_api import MARKS, WITH_LINES, serving_forms

FUNCTION = {
    "name": "get",
    "parameters": {
        "type": "object",
        "properties": {"kind": {"enum": ["ab", "abc"]}, "age": {"type": "integer", "maximum": 99}},
        "required": ["kind", "age"],
        "additionalProperties": False,
    },
}
NAP = {"name": "nap", "parameters": {"type": "object", "properties": {}, "maxProperties": 0}}
TOOLS: Any = [{"type": "function", "function": function} for function in (FUNCTION, NAP)]
USER: Any = [{"role": "user", "content": "hi"}]


def check(name: str, arguments: Any) -> None:
    assert name in ("get", "nap")
    if name == "get":
        assert arguments["kind"] in ("ab", "abc")
        assert arguments["age"] <= 99


# What ends a thought comes soon, of a target that draws any token.
SHORT_THOUGHTS = {str(len(WITH_LINES) + MARKS["harmony"].index(b"<|end|>")): 6}


@pytest.mark.parametrize("family", ["hermes", "llama", "mistral", "harmony", "gemma"])
def test_openais_client_gets_the_call_that_it_demands(family: str) -> None:
    async def scenario() -> None:
        reasoning = "harmony" if family == "harmony" else ""
        async with (
            serving_forms(OutputFormat(family, reasoning)) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
        ):
            for seed in range(3):
                asked: Any = {"temperature": 1.0, "seed": seed, "max_tokens": 400}
                if family == "harmony":
                    asked["logit_bias"] = SHORT_THOUGHTS
                answer: Any = await client.chat.completions.create(
                    model="any",
                    messages=USER,
                    tools=TOOLS,
                    tool_choice={"type": "function", "function": {"name": "get"}},
                    **asked,
                )
                (choice,) = answer.choices
                assert ("tool_calls", None) == (choice.finish_reason, choice.message.content)
                (call,) = choice.message.tool_calls
                assert "get" == call.function.name
                check("get", json.loads(call.function.arguments))
                async with client.chat.completions.stream(
                    model="any",
                    messages=USER,
                    tools=TOOLS,
                    tool_choice="required",
                    parallel_tool_calls=False,
                    **asked,
                ) as stream:
                    completion: Any = await stream.get_final_completion()
                (call,) = completion.choices[0].message.tool_calls
                check(call.function.name, json.loads(call.function.arguments))

    asyncio.run(scenario())


def test_anthropics_client_gets_the_call_that_it_demands() -> None:
    tools: Any = [{"name": "get", "input_schema": FUNCTION["parameters"]}]

    async def scenario() -> None:
        async with (
            serving_forms(OutputFormat("hermes")) as url,
            AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client,
        ):
            message = await client.messages.create(
                model="any",
                max_tokens=400,
                messages=USER,
                tools=tools,
                tool_choice={"type": "any"},
            )
            (call,) = message.content
            assert "tool_use" == message.stop_reason
            check(call.name, call.input)  # type: ignore[union-attr]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"response_format": {"type": "json_object"}}, "leave one of them out"),
        (
            {"tools": [{"type": "function", "function": {
                "name": "get", "parameters": {"properties": {"a": {"type": "nope"}}}}}]},
            "tool_choice cannot be followed: ",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "get", "parameters": {
                "properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]}}}]},
            "tool_choice cannot be followed: no text can satisfy it",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_demanded_is_a_400(fields: dict[str, Any], words: str) -> None:
    async def scenario() -> None:
        async with (
            serving_forms(OutputFormat("hermes")) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
        ):
            asked: Any = {"model": "any", "messages": USER, "tools": TOOLS, **fields}
            with pytest.raises(openai.BadRequestError, match=words) as refused:
                await client.chat.completions.create(**asked, tool_choice="required")
            assert "tool_choice" == refused.value.param

    asyncio.run(scenario())
