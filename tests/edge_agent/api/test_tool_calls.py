"""Unmodified clients offer tools, read calls and thoughts, and send what came of the calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import ollama
import openai
import pytest

from edge_agent.generation.generation import TextPiece
from edge_agent.generation.scripted_generator import ScriptedGenerator
from edge_agent.output_parsing.output_parser import OutputReading
from shared.protocol.messages import ChatMessage, OutputFormat, ToolCall
from tests.support.ends.api_server import serving

PARAMETERS: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION: dict[str, Any] = {
    "name": "get_weather",
    "description": "How it is",
    "parameters": PARAMETERS,
}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]
USER: Any = {"role": "user", "content": "How is Paris?"}
ARGUMENTS = '{"city": "Paris"}'
CALL = ToolCall("c1", "get_weather", ARGUMENTS)
END, START = "<|end|>", "<|start|>assistant"
# What each family writes: a thought where it can, a word, two calls.
SCRIPTS: dict[str, tuple[OutputFormat, str]] = {
    "hermes": (
        OutputFormat("hermes", "think"),
        "<think>\nHm.\n</think>\n\nI look."
        + 2 * f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>\n',
    ),
    "mistral": (
        OutputFormat("mistral", "mistral"),
        "[THINK]Hm.[/THINK]I look." + 2 * f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}",
    ),
    "gemma": (
        OutputFormat("gemma", "gemma"),
        "<|channel>thought\nHm.<channel|>I look."
        + 2 * '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>}<tool_call|>',
    ),
    "harmony": (
        OutputFormat("harmony", "harmony"),
        f"<|channel|>analysis<|message|>Hm.{END}{START}<|channel|>commentary<|message|>I look."
        + 2
        * f"{END}{START} to=functions.get_weather<|channel|>commentary json<|message|>"
        f"{ARGUMENTS}<|call|>".replace("<|call|>", ""),
    ),
    "qwen coder": (
        OutputFormat("hermes", "think"),
        "<think>Hm.</think>I look."
        + 2
        * (
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
            "</function>\n</tool_call>"
        ),
    ),
}


def pieces(script: str, num_characters: int = 3) -> list[TextPiece]:
    """A script in tokens; marks of control tokens are tokens."""
    steps, rest = [], script
    marks = ("<|", "<tool", "</tool", "[TOOL", "[ARGS", "[THINK", "[/THINK", "<channel|>")
    while rest:
        size = num_characters
        if rest.startswith(marks):
            size = 1 + min(at for at in (rest.find(">"), rest.find("]")) if at > 0)
            if rest.startswith('<|"|>'):
                size = 5
        else:
            nearest = [at for mark in marks if (at := rest.find(mark)) > 0]
            size = min([size, *nearest])
        steps.append(TextPiece(rest[:size], "target"))
        rest = rest[size:]
    return steps


@asynccontextmanager
async def served(
    family: str, script: str | None = None
) -> AsyncIterator[tuple[str, ScriptedGenerator]]:
    output_format, whole = SCRIPTS[family]
    steps = pieces(whole if script is None else script)
    generator = ScriptedGenerator(steps, target_model="target", output_format=output_format)
    async with serving(generator) as url:
        yield url, generator


def openai_client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)


@pytest.mark.parametrize("family", SCRIPTS)
def test_openais_client_reads_calls(family: str) -> None:
    async def scenario() -> None:
        async with served(family) as (url, _), openai_client(url) as client:
            create = client.chat.completions.create
            answer = await create(model="any", messages=[USER], tools=TOOLS)
        (choice,) = answer.choices
        message: Any = choice.message
        said = ("tool_calls", "I look.", "Hm.")
        assert said == (choice.finish_reason, message.content, message.reasoning_content)
        names = [(call.type, call.function.name) for call in message.tool_calls]
        assert [("function", "get_weather")] * 2 == names
        arguments = [json.loads(call.function.arguments) for call in message.tool_calls]
        assert [{"city": "Paris"}] * 2 == arguments
        assert 2 == len({call.id for call in message.tool_calls})
        details = answer.usage and answer.usage.completion_tokens_details
        assert details is not None
        assert details.reasoning_tokens

    asyncio.run(scenario())


@pytest.mark.parametrize("family", SCRIPTS)
def test_openais_client_puts_a_stream_together_as_a_whole_answer(family: str) -> None:
    async def scenario() -> None:
        async with served(family) as (url, _), openai_client(url) as client:
            whole = await client.chat.completions.create(model="any", messages=[USER], tools=TOOLS)
            async with client.chat.completions.stream(
                model="any", messages=[USER], tools=TOOLS
            ) as stream:
                thoughts = ""
                async for event in stream:
                    if event.type == "chunk" and event.chunk.choices:
                        delta: Any = event.chunk.choices[0].delta
                        thoughts += getattr(delta, "reasoning_content", None) or ""
                streamed = await stream.get_final_completion()
        choices: list[Any] = [whole.choices[0], streamed.choices[0]]
        calls = [
            [(call.function.name, call.function.arguments) for call in choice.message.tool_calls]
            for choice in choices
        ]
        assert calls[0] == calls[1]
        ends = (streamed.choices[0].finish_reason, streamed.choices[0].message.content, thoughts)
        assert ("tool_calls", "I look.", "Hm.") == ends

    asyncio.run(scenario())


def test_arguments_are_streamed_as_they_come() -> None:
    async def scenario() -> list[Any]:
        async with served("hermes") as (url, _), openai_client(url) as client:
            stream: Any = await client.chat.completions.create(
                model="any", messages=[USER], tools=TOOLS, stream=True
            )
            return [
                call
                async for chunk in stream
                for call in chunk.choices[0].delta.tool_calls or []
                if call.index == 0
            ]

    first, *rest = asyncio.run(scenario())
    assert ("get_weather", "", "function") == (
        first.function.name,
        first.function.arguments,
        first.type,
    )
    assert first.id
    assert [(None, None)] * len(rest) == [(call.id, call.function.name) for call in rest]
    assert 5 < len(rest)
    assert ARGUMENTS == "".join(call.function.arguments for call in rest)


def test_a_call_alone_has_no_content() -> None:
    async def scenario() -> None:
        script = f'<tool_call>{{"name": "get_weather", "arguments": {ARGUMENTS}}}</tool_call>'
        async with served("hermes", script) as (url, _), openai_client(url) as client:
            answer: Any = await client.chat.completions.create(
                model="any", messages=[USER], tools=TOOLS, parallel_tool_calls=False
            )
            message = answer.choices[0].message
            assert (None, 1) == (message.content, len(message.tool_calls))
            without: Any = await client.chat.completions.create(model="any", messages=[USER])
            call = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'
            assert call == without.choices[0].message.content  # the marks are control tokens
            assert "stop" == without.choices[0].finish_reason

    asyncio.run(scenario())


def test_thoughts_stay_in_the_text_where_a_client_wants_them_there() -> None:
    async def scenario() -> str:
        async with served("hermes") as (url, _), openai_client(url) as client:
            answer: Any = await client.chat.completions.create(
                model="any", messages=[USER], extra_body={"reasoning_format": "none"}
            )
            content: str = answer.choices[0].message.content
            return content

    assert asyncio.run(scenario()).startswith("<think>\nHm.\n</think>\n\nI look.")


def test_openais_client_sends_a_talk_with_tools() -> None:
    async def scenario() -> None:
        history: Any = [
            USER,
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Hm.",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": ARGUMENTS},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "Rain"},
        ]
        async with served("hermes", "So.") as (url, generator), openai_client(url) as client:
            await client.chat.completions.create(model="any", messages=history, tools=TOOLS)
        (asked,) = generator.requests
        assert turns(reasoning="Hm.") == asked.messages
        assert TOOLS == json.loads(asked.tools)
        assert OutputReading(calls=True, reasoning=True) == asked.reading

    asyncio.run(scenario())


def turns(reasoning: str = "") -> tuple[ChatMessage, ...]:
    return (
        ChatMessage("user", "How is Paris?"),
        ChatMessage("assistant", "", reasoning, (CALL,)),
        ChatMessage("tool", "Rain", "", (), "c1", "get_weather"),
    )


def test_the_responses_api_reads_calls_and_thoughts_as_items() -> None:
    flat: Any = [{"type": "function", **FUNCTION, "strict": False}]

    async def scenario() -> tuple[Any, Any, Sequence[Any]]:
        async with served("hermes") as (url, _), openai_client(url) as client:
            whole = await client.responses.create(model="any", input="hi", tools=flat)
            async with client.responses.stream(model="any", input="hi", tools=flat) as stream:
                events = [event async for event in stream]
                return whole, await stream.get_final_response(), events

    whole, streamed, events = asyncio.run(scenario())
    for response in (whole, streamed):
        reasoning, message, *calls = response.output
        assert "Hm." == reasoning.content[0].text
        assert "I look." == message.content[0].text
        assert [("function_call", "get_weather")] * 2 == [(call.type, call.name) for call in calls]
        assert [{"city": "Paris"}] * 2 == [json.loads(call.arguments) for call in calls]
        assert response.usage.output_tokens_details.reasoning_tokens
    assert list(range(len(events))) == [event.sequence_number for event in events]
    deltas = [e for e in events if e.type == "response.function_call_arguments.delta"]
    assert {2, 3} == {event.output_index for event in deltas}
    assert "get_weather" == whole.tools[0].name


def test_the_responses_api_sends_a_talk_with_tools() -> None:
    async def scenario() -> None:
        items: Any = [
            USER,
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "get_weather",
                "arguments": ARGUMENTS,
            },
            {"type": "function_call_output", "call_id": "c1", "output": "Rain"},
        ]
        async with served("hermes", "So.") as (url, generator), openai_client(url) as client:
            await client.responses.create(model="any", input=items)
        (asked,) = generator.requests
        assert turns(reasoning="Hm.") == asked.messages

    asyncio.run(scenario())


@pytest.mark.parametrize("family", SCRIPTS)
def test_anthropics_client_reads_blocks(family: str) -> None:
    tools: Any = [{"name": "get_weather", "description": "How it is", "input_schema": PARAMETERS}]

    async def scenario() -> list[Any]:
        async with (
            served(family) as (url, generator),
            anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client,
        ):
            asked: Any = {"model": "any", "max_tokens": 99, "messages": [USER], "tools": tools}
            whole = await client.messages.create(**asked)
            async with client.messages.stream(**asked) as stream:
                streamed = await stream.get_final_message()
            assert TOOLS == json.loads(generator.requests[0].tools)
            return [whole, streamed]

    for message in asyncio.run(scenario()):
        thinking, text, *calls = message.content
        assert ("Hm.", "I look.", "tool_use") == (
            thinking.thinking,
            text.text,
            message.stop_reason,
        )
        assert [("get_weather", {"city": "Paris"})] * 2 == [
            (call.name, call.input) for call in calls
        ]


def test_anthropics_client_sends_a_talk_with_tools() -> None:
    async def scenario() -> None:
        history: Any = [
            USER,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": ""},
                    {
                        "type": "tool_use",
                        "id": "c1",
                        "name": "get_weather",
                        "input": {"city": "Paris"},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "Rain"},
                    {"type": "text", "text": "And?"},
                ],
            },
        ]
        async with (
            served("hermes", "So.") as (url, generator),
            anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client,
        ):
            await client.messages.create(model="any", max_tokens=9, messages=history)
        (asked,) = generator.requests
        said, call, result, more = asked.messages
        assert ('{"city":"Paris"}', "Hm.") == (call.tool_calls[0].arguments, call.reasoning)
        assert (said, result) == (turns()[0], turns()[2])
        assert ChatMessage("user", "And?") == more

    asyncio.run(scenario())


@pytest.mark.parametrize("family", SCRIPTS)
def test_ollamas_client_reads_calls(family: str) -> None:
    async def scenario() -> None:
        async with served(family) as (url, _), ollama.AsyncClient(host=url) as client:
            whole = await client.chat("any", [USER], tools=TOOLS)
            stream = await client.chat("any", [USER], tools=TOOLS, stream=True)
            parts = [part.message async for part in stream]
        message = whole.message
        assert ("I look.", "Hm.") == (message.content, message.thinking)
        calls = [(c.function.name, c.function.arguments) for c in message.tool_calls or []]
        assert [("get_weather", {"city": "Paris"})] * 2 == calls
        assert "I look." == "".join(part.content or "" for part in parts)
        assert "Hm." == "".join(part.thinking or "" for part in parts)
        streamed = [call for part in parts for call in part.tool_calls or []]
        assert calls == [(call.function.name, call.function.arguments) for call in streamed]

    asyncio.run(scenario())


def test_ollamas_client_sends_a_talk_with_tools() -> None:
    async def scenario() -> None:
        call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
        history: Any = [
            USER,
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]},
            {"role": "tool", "content": "Rain", "tool_name": "get_weather"},
        ]
        async with (
            served("hermes", "So.") as (url, generator),
            ollama.AsyncClient(host=url) as client,
        ):
            await client.chat("any", history)
        (asked,) = generator.requests
        _, assistant, result = asked.messages
        assert (ToolCall("call_0", "get_weather", '{"city":"Paris"}'),) == assistant.tool_calls
        assert ("call_0", "get_weather", "Rain") == (
            result.tool_call_id,
            result.name,
            result.content,
        )

    asyncio.run(scenario())


CUT = '<tool_call>{"name": "get_weather", "arguments": {"city": "Pa'


def test_half_of_a_calls_arguments_are_no_call_where_objects_are_told() -> None:
    async def scenario() -> None:
        async with served("hermes", CUT) as (url, _):
            async with ollama.AsyncClient(host=url) as asking:
                message = (await asking.chat("any", [USER], tools=TOOLS)).message
            assert ('get_weather({"city": "Pa', None) == (message.content, message.tool_calls)
            async with openai_client(url) as client:
                answer: Any = await client.chat.completions.create(
                    model="any", messages=[USER], tools=TOOLS
                )
            (call,) = answer.choices[0].message.tool_calls
            assert '{"city": "Pa' == call.function.arguments

    asyncio.run(scenario())
