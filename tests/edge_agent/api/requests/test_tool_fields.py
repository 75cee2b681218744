"""Tools arrive in OpenAI's words whatever the dialect, and what is none is refused by its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from edge_agent.api.anthropic.message_request import read_message_request
from edge_agent.api.ollama.ollama_request import read_ollama_chat
from edge_agent.api.openai_request import read_chat_request
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.tool_fields import (
    ToolsAsked,
    read_anthropic_tools,
    read_chat_tools,
    read_flat_tools,
    read_ollama_tools,
)
from edge_agent.api.responses.response_request import read_response_request
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_TOOLS, ChatMessage, ToolCall

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ADD = {"name": "add", "description": "Sum", "parameters": SCHEMA}
TOLD = {"type": "function", "function": ADD}
TOOL, FLAT = {"type": "function", "function": ADD}, {"type": "function", **ADD, "strict": True}
ANTHROPIC = {"name": "add", "description": "Sum", "input_schema": SCHEMA}
USER = {"role": "user", "content": "hi"}

Read = Callable[[Mapping[str, Any]], ToolsAsked]


@pytest.mark.parametrize(
    ("read", "fields"),
    [
        (read_chat_tools, {"tools": [TOOL]}),
        (read_chat_tools, {"functions": [ADD], "function_call": "auto"}),
        (read_flat_tools, {"tools": [FLAT], "tool_choice": "auto"}),
        (read_anthropic_tools, {"tools": [ANTHROPIC], "tool_choice": {"type": "auto"}}),
        (read_anthropic_tools, {"tools": [{**ANTHROPIC, "type": "custom"}]}),
        (read_ollama_tools, {"tools": [TOOL]}),
    ],
)
def test_a_tool_is_told_in_openais_words(read: Read, fields: dict[str, Any]) -> None:
    asked = read(fields)
    assert [TOLD] == json.loads(asked.tools)
    assert (True, ()) == (asked.several, asked.must_call)


def test_what_a_tool_leaves_out_is_there_for_the_template() -> None:
    asked = read_chat_tools({"tools": [{"type": "function", "function": {"name": "now"}}]})
    (tool,) = json.loads(asked.tools)
    nothing = {"type": "object", "properties": {}}
    expected = {"name": "now", "description": "", "parameters": nothing}
    assert expected == tool["function"]


@pytest.mark.parametrize(
    ("read", "fields"),
    [
        (read_chat_tools, {"tools": [TOOL], "tool_choice": "none"}),
        (read_chat_tools, {"functions": [ADD], "function_call": "none"}),
        (read_flat_tools, {"tools": [FLAT], "tool_choice": "none"}),
        (read_anthropic_tools, {"tools": [ANTHROPIC], "tool_choice": {"type": "none"}}),
        (read_chat_tools, {}),
        (read_chat_tools, {"tools": [], "tool_choice": "auto"}),
    ],
)
def test_tools_that_none_may_call_are_not_shown(read: Read, fields: dict[str, Any]) -> None:
    assert b"" == read(fields).tools


@pytest.mark.parametrize(
    ("read", "fields"),
    [
        (read_chat_tools, {"tools": [TOOL], "parallel_tool_calls": False}),
        (read_flat_tools, {"tools": [FLAT], "parallel_tool_calls": False}),
        (
            read_anthropic_tools,
            {
                "tools": [ANTHROPIC],
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            },
        ),
    ],
)
def test_one_call_alone_may_be_wanted(read: Read, fields: dict[str, Any]) -> None:
    assert not read(fields).several


@pytest.mark.parametrize(
    ("read", "fields"),
    [
        (read_chat_tools, {"tools": [TOOL], "tool_choice": "required"}),
        (
            read_chat_tools,
            {
                "tools": [TOOL],
                "tool_choice": {"type": "function", "function": {"name": "add"}},
            },
        ),
        (read_chat_tools, {"functions": [ADD], "function_call": {"name": "add"}}),
        (
            read_flat_tools,
            {"tools": [FLAT], "tool_choice": {"type": "function", "name": "add"}},
        ),
        (read_anthropic_tools, {"tools": [ANTHROPIC], "tool_choice": {"type": "any"}}),
        (
            read_anthropic_tools,
            {"tools": [ANTHROPIC], "tool_choice": {"type": "tool", "name": "add"}},
        ),
    ],
)
def test_a_call_may_be_demanded(read: Read, fields: dict[str, Any]) -> None:
    assert ("add",) == read(fields).must_call


@pytest.mark.parametrize(
    ("tool", "field"),
    [
        (5, "tools[0]"),
        ({"type": "web_search"}, "tools[0].type"),
        ({"type": "function", "function": 5}, "tools[0].function"),
        ({"type": "function", "function": {}}, "tools[0].function.name"),
        ({"type": "function", "function": {"name": "a b"}}, "tools[0].function.name"),
        ({"type": "function", "function": {"name": "ä"}}, "tools[0].function.name"),
        ({"type": "function", "function": {"name": "a" * 129}}, "tools[0].function.name"),
        ({"type": "function", "function": {"name": "a\n"}}, "tools[0].function.name"),
        (
            {"type": "function", "function": {"name": "a", "description": 5}},
            "tools[0].function.description",
        ),
        (
            {"type": "function", "function": {"name": "a", "parameters": []}},
            "tools[0].function.parameters",
        ),
        ({"type": "function"}, "tools[0].name"),
    ],
)
def test_what_is_no_tool_is_refused_by_its_name(tool: Any, field: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_chat_tools({"tools": [tool]})
    assert field == refused.value.field
    assert field in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": 5}, "tools"),
        ({"tools": [TOOL] * (MAX_TOOLS + 1)}, "tools"),
        ({"tools": [{"function": {"name": "a", "description": "x" * 600_000}}]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "b"}}},
            "tool_choice",
        ),
        ({"tools": [TOOL], "parallel_tool_calls": 5}, "parallel_tool_calls"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_chat_tools(fields)
    assert field == refused.value.field


def test_200_tools_are_no_reason_to_refuse() -> None:
    tools = [{"type": "function", "function": {"name": f"f{i}"}} for i in range(200)]
    assert 200 == len(json.loads(read_chat_tools({"tools": tools}).tools))


def assistant(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, **fields}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (assistant(tool_calls=5), "tool_calls"),
        (assistant(tool_calls=[5]), "tool_calls[0]"),
        (assistant(tool_calls=[{"function": {}}]), "tool_calls[0].function.name"),
        (assistant(tool_calls=[{"function": {"name": 5}}]), "tool_calls[0].function.name"),
        (
            assistant(tool_calls=[{"function": {"name": "a", "arguments": [1]}}]),
            "tool_calls[0].function.arguments",
        ),
        (assistant(tool_calls=[{"id": 5, "function": {"name": "a"}}]), "tool_calls[0].id"),
        (assistant(tool_calls=[{"function": {"name": "a"}}] * 257), "tool_calls"),
        (assistant(reasoning_content=5), "reasoning_content"),
        ({"role": "tool", "content": "x", "tool_call_id": 5}, "tool_call_id"),
        ({"role": "tool", "content": "x", "tool_call_id": "i" * 201}, "tool_call_id"),
        ({"role": "tool", "content": None}, "content"),
    ],
)
def test_what_is_no_call_or_result_is_refused_by_its_name(
    message: dict[str, Any], field: str
) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_chat_request({"messages": [USER, message]})
    assert f"messages[1].{field}" == refused.value.field


def test_results_without_ids_answer_in_order_or_by_name() -> None:
    calls = [{"function": {"name": name}} for name in ("a", "b", "a")]
    named = {"role": "tool", "content": "2", "tool_name": "b"}
    results = [{"role": "tool", "content": "1"}, named, {"role": "tool", "content": "3"}]
    messages = [USER, assistant(tool_calls=calls), *results]
    turns = read_ollama_chat({"messages": messages}).generation.messages
    assert ("call_0", "call_1", "call_2") == tuple(call.call_id for call in turns[1].tool_calls)
    assert [("call_0", "a"), ("call_1", "b"), ("call_2", "a")] == [
        (turn.tool_call_id, turn.name) for turn in turns[2:]
    ]


def test_a_function_of_old_is_a_tool() -> None:
    call = {"name": "add", "arguments": "{}"}
    answer = {"role": "function", "name": "add", "content": "3"}
    fields = {"messages": [USER, assistant(function_call=call), answer]}
    asked = read_chat_request(fields)
    _, said, result = asked.generation.messages
    assert (ToolCall("call_0", "add", "{}"),) == said.tool_calls
    assert ChatMessage("tool", "3", "", (), "call_0", "add") == result
    assert () == asked.ignored


def test_calls_of_the_responses_api_belong_to_the_turn_before_them() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"}
    items = [
        USER,
        {"type": "message", "role": "assistant", "content": "So."},
        call,
        {**call, "call_id": "d"},
        {"type": "function_call_output", "call_id": "c", "output": "3"},
        {"type": "function_call_output", "call_id": "d", "output": [
            {"type": "input_text", "text": "4"}]},
        call,
    ]  # fmt: skip
    turns = read_response_request({"input": items}).generation.messages
    assert ["user", "assistant", "tool", "tool", "assistant"] == [turn.role for turn in turns]
    assert ("So.", 2, "4", 1) == (
        turns[1].content,
        len(turns[1].tool_calls),
        turns[3].content,
        len(turns[4].tool_calls),
    )


@pytest.mark.parametrize(
    ("thinking", "arguments"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, '{"enable_thinking":true}'),
        ({"type": "disabled"}, '{"enable_thinking":false}'),
        ({"type": "adaptive"}, ""),
        (False, '{"enable_thinking":false}'),
    ],
)
@pytest.mark.parametrize("read", [read_message_request, read_chat_request])
def test_clients_of_anthropics_and_deepseeks_words_say_whether_to_think(
    read: Callable[[Mapping[str, Any]], ClientRequest], thinking: Any, arguments: str
) -> None:
    asked = read({"messages": [USER], "thinking": thinking})
    assert (arguments, ()) == (asked.generation.template.arguments, asked.ignored)


# --- tools of a vendor's server -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "body", "own"),
    [
        (read_response_request, {"input": "hi"}, FLAT),
        (read_message_request, {"messages": [USER]}, ANTHROPIC),
    ],
)
def test_those_that_a_vendor_runs_are_left_out_beside_own_ones_and_named(
    read: Callable[[Mapping[str, Any]], ClientRequest], body: dict[str, Any], own: dict[str, Any]
) -> None:
    """Codex and others name them whatever server they speak to."""
    hosted = {"type": "web_search_20250305", "name": "web_search"}
    asked = read({**body, "tools": [hosted, own]})
    assert [TOLD] == json.loads(asked.generation.tools)
    assert ("tools.web_search_20250305",) == asked.ignored
    with pytest.raises(RequestRefused) as refused:
        read({**body, "tools": [hosted, {**own, "name": "a b"}]})
    assert "tools[1].name" == refused.value.field
    with pytest.raises(RequestRefused) as refused:
        read({**body, "tools": [hosted]})
    assert "tools[0].type" == refused.value.field


def test_none_of_them_can_be_demanded() -> None:
    hosted = {"type": "web_search_20250305", "name": "web_search"}
    choice = {"type": "tool", "name": "web_search"}
    with pytest.raises(RequestRefused) as refused:
        read_anthropic_tools({"tools": [hosted, ANTHROPIC], "tool_choice": choice})
    assert "tool_choice" == refused.value.field
