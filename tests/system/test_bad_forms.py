"""Forms and tools that are none, in every dialect: an error in its words that names its field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import aiohttp

from edge_agent.api.requests.grammar_fields import MAX_GRAMMAR_BYTES
from shared.protocol.messages import MAX_TOOLS, OutputFormat
from tests.support.ends.forms_api import serving_forms

USER = {"messages": [{"role": "user", "content": "hi"}]}
ENDLESS = {
    "type": "object",
    "properties": {"a": {"$ref": "#"}},
    "required": ["a"],
    "additionalProperties": False,
}
DEEP: dict[str, Any] = {}
for _ in range(400):
    DEEP = {"items": DEEP}
LONG = {"type": "array", "items": {"enum": ["ab", "abc"]}, "minItems": 1000}
LIMIT_WORDS = ("length", "incomplete", "max_tokens")
BAD_SCHEMAS: dict[str, Any] = {
    "contradictory": {"type": "integer", "minimum": 5, "maximum": 1},
    "of a type that is none": {"type": "nope"},
    "with a reference to nothing": {"$ref": "#/$defs/gone"},
    "with a keyword that is not known": {"type": "array", "uniqueItems": True},
    "with a dear pattern": {"type": "string", "pattern": "(?=a)b"},
    "huge": {"type": "object", "description": "x" * MAX_GRAMMAR_BYTES},
    "deep": DEEP,
    "no object": [1, 2],
    "that requires itself": ENDLESS,
}


class Dialect(NamedTuple):
    """How its clients ask, and what they call a schema and a tool's name."""

    path: str
    asked: dict[str, Any]
    form: Callable[[Any], dict[str, Any]]
    form_field: str
    tool: Callable[[str], dict[str, Any]] | None = None
    name_field: str = ""
    limit: str = "max_tokens"


def _openai_form(schema: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return {"response_format": form}


def _openai_tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


_OF_OPENAI = "response_format.json_schema.schema"
DIALECTS = (
    Dialect(
        "/v1/chat/completions", USER, _openai_form, _OF_OPENAI, _openai_tool,
        "tools[0].function.name",
    ),
    Dialect("/v1/completions", {"prompt": "hi"}, _openai_form, _OF_OPENAI),
    Dialect(
        "/v1/responses", {"input": "hi"},
        lambda schema: {"text": {"format": {"type": "json_schema", "schema": schema}}},
        "text.format.schema", lambda name: {"type": "function", "name": name}, "tools[0].name",
        "max_output_tokens",
    ),
    Dialect(
        "/v1/messages", {**USER, "max_tokens": 9},
        lambda schema: {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
        "output_config.format.schema", lambda name: {"name": name}, "tools[0].name",
    ),
    Dialect(
        "/api/chat", {**USER, "stream": False}, lambda schema: {"format": schema}, "format",
        _openai_tool, "tools[0].function.name",
    ),
    Dialect(
        "/api/generate", {"prompt": "hi", "stream": False}, lambda schema: {"format": schema},
        "format",
    ),
)  # fmt: skip


def sentence_of(dialect: Dialect, answer: Any) -> str:
    """What the error says, from where the dialect's clients look for it."""
    if dialect.path.startswith("/api/"):
        return str(answer["error"])
    error = answer["error"]
    if dialect.path == "/v1/messages":
        assert ("error", "invalid_request_error") == (answer["type"], error["type"])
    return str(error["message"])


async def post(http: aiohttp.ClientSession, path: str, fields: Any) -> tuple[int, Any]:
    body = json.dumps(fields)
    async with http.post(path, data=body, headers={"Content-Type": "application/json"}) as told:
        return told.status, json.loads(await told.read())


def test_a_schema_that_nothing_can_follow_is_refused_by_the_clients_own_field() -> None:
    async def scenario() -> list[str]:
        wrong = []
        async with serving_forms(OutputFormat("hermes")) as url, aiohttp.ClientSession(url) as http:
            for dialect in DIALECTS:
                for name, schema in BAD_SCHEMAS.items():
                    fields = {**dialect.asked, **dialect.form(schema)}
                    status, answer = await post(http, dialect.path, fields)
                    is_named = status == 400 and dialect.form_field in sentence_of(dialect, answer)
                    # What is too deep to be read at all has no field.
                    is_deep = status == 400 and name == "deep" and "deep" in json.dumps(answer)
                    if not is_named and not is_deep:
                        wrong.append(f"{dialect.path}, {name}: {status} {answer}")
                status, _ = await post(http, dialect.path, {**dialect.asked, "max_tokens": 3})
                assert 200 == status, "and the next answer is as ever"
        return wrong

    assert [] == asyncio.run(scenario())


DEAD_END = 'start: /[ab]/ " " DEAD\nDEAD: /x/ & /y/\n'


def test_a_form_that_leads_nowhere_behind_a_choice_is_the_clients_error() -> None:
    async def scenario() -> None:
        form = OutputFormat("hermes")
        async with serving_forms(form) as url, aiohttp.ClientSession(url) as http:
            for dialect in DIALECTS[:4]:
                fields = {**dialect.asked, "grammar": DEAD_END, dialect.limit: 40}
                status, answer = await post(http, dialect.path, fields)
                said = sentence_of(dialect, answer)
                assert (400, True) == (status, said.startswith("grammar: ")), answer
                async with http.post(dialect.path, json={**fields, "stream": True}) as told:
                    events = await told.text()
                assert 200 == told.status
                assert said in events, events
                assert "invalid_request" in events, events

    asyncio.run(scenario())


def test_a_schema_that_is_not_over_at_the_limit_ends_there() -> None:
    async def scenario() -> None:
        form = OutputFormat("hermes")
        async with serving_forms(form) as url, aiohttp.ClientSession(url) as http:
            for dialect in DIALECTS[:4]:
                fields = {**dialect.asked, **dialect.form(LONG), dialect.limit: 9}
                status, answer = await post(http, dialect.path, fields)
                ends = [word for word in LIMIT_WORDS if f'"{word}"' in json.dumps(answer)]
                assert (200, 1) == (status, len(ends)), answer

    asyncio.run(scenario())


def test_a_tools_name_with_spaces_is_refused_and_200_tools_are_taken() -> None:
    async def scenario() -> None:
        async with serving_forms(OutputFormat("hermes")) as url, aiohttp.ClientSession(url) as http:
            for dialect in DIALECTS:
                if dialect.tool is None:
                    continue
                make = dialect.tool
                status, answer = await post(
                    http, dialect.path, {**dialect.asked, "tools": [make("get weather")]}
                )
                named = f"{dialect.name_field} = 'get weather'"
                assert (400, True) == (status, named in sentence_of(dialect, answer)), answer
                many = [make(f"get_{i}") for i in range(200)]
                fields = {**dialect.asked, dialect.limit: 3, "tools": many}
                assert 200 == (await post(http, dialect.path, fields))[0]
                too_many = [make(f"get_{i}") for i in range(MAX_TOOLS + 1)]
                status, answer = await post(
                    http, dialect.path, {**dialect.asked, "tools": too_many}
                )
                assert (400, True) == (status, "tools" in sentence_of(dialect, answer)), answer

    asyncio.run(scenario())
