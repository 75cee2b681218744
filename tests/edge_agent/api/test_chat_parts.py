"""The chat socket tells thoughts and calls apart from text, and why nothing comes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from edge_agent.generation.generation import TextPiece
from edge_agent.generation.queued_generator import QueuedGenerator
from edge_agent.generation.scripted_generator import ScriptedGenerator
from edge_agent.generation.waiting_line import LineLimits
from shared.errors import RequestRefused
from shared.protocol.messages import OutputFormat
from tests.support.ends.api_server import HELLO, serving

PATH = "/v1/chat/socket"
GENERATE = {"type": "generate", "messages": [{"role": "user", "content": "Weather in Oslo?"}]}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
THINKS_AND_CALLS = OutputFormat(tools="hermes", reasoning="think")
SCRIPT = [
    TextPiece("<think>", "target", "alone"),
    TextPiece("Look it up.", "accepted"),
    TextPiece("</think>", "accepted"),
    TextPiece("Let me see.", "accepted"),
    TextPiece('<tool_call>\n{"name": "weather", "arguments": ', "target", "forced"),
    TextPiece('{"city": "Oslo"}}\n</tool_call>', "accepted"),
]
# Marks are control tokens, which make no text.
MARKS = re.compile(r"</?(?:think|tool_call)>")
AS_IT_IS = MARKS.sub("", "".join(piece.text for piece in SCRIPT)).strip()


async def said(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Part and text of every piece, neighbours of one part together."""
    generator = ScriptedGenerator(SCRIPT, output_format=THINKS_AND_CALLS)
    parts: list[tuple[str, str]] = []
    async with (
        serving(generator) as url,
        aiohttp.ClientSession(url) as http,
        http.ws_connect(PATH) as socket,
    ):
        await socket.send_json({**GENERATE, **fields})
        while (message := await socket.receive_json(timeout=5))["type"] != "finished":
            if message["type"] != "text":
                continue
            part = message.get("part", "text")
            before = parts.pop()[1] if parts and parts[-1][0] == part else ""
            parts.append((part, before + message["text"]))
    return parts


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [("text", AS_IT_IS)]),
        (
            {"reasoning_format": "auto"},
            [("reasoning", "Look it up."), ("text", AS_IT_IS.removeprefix("Look it up."))],
        ),
        (
            {"tools": [TOOL]},
            [
                ("reasoning", "Look it up."),
                ("text", "Let me see."),
                ("call", "weather"),
                ("arguments", '{"city": "Oslo"}'),
            ],
        ),
        (
            {"tools": [TOOL], "tool_choice": "none", "reasoning_format": "none"},
            [("text", AS_IT_IS)],
        ),
    ],
    ids=["as it is", "thoughts", "thoughts and calls", "neither"],
)
def test_parts_are_told_apart_where_the_client_asks(
    fields: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    told = asyncio.run(said(fields))
    assert expected == [(part, text.strip()) for part, text in told]


def test_who_waits_hears_its_place_in_the_line_and_what_keeps_the_board() -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        queued = QueuedGenerator(ScriptedGenerator([gate, *HELLO], max_streams=1), LineLimits())
        hindrances = ["the verifier is loading its model (43 %)"]
        async with (
            serving(
                queued, place_of=queued.place_of, hindrance=lambda: " ".join(hindrances)
            ) as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect(PATH) as first,
            http.ws_connect(PATH) as second,
        ):
            for socket in (first, second):
                await socket.send_json(GENERATE)
                assert "started" == (await socket.receive_json(timeout=5))["type"]
            because = {"type": "waiting", "because": hindrances[0]}
            assert because == await first.receive_json(timeout=5)
            assert {**because, "num_ahead": 0} == await second.receive_json(timeout=5)
            hindrances.clear()
            assert {"type": "waiting"} == await first.receive_json(timeout=5)
            assert {"type": "waiting", "num_ahead": 0} == await second.receive_json(timeout=5)
            gate.set()
            assert "text" == (await first.receive_json(timeout=5))["type"]

    asyncio.run(scenario())


def test_a_full_line_is_an_error_that_says_when_to_come_again() -> None:
    async def scenario() -> None:
        limits = LineLimits(max_requests=0)
        queued = QueuedGenerator(ScriptedGenerator([asyncio.Event()], max_streams=1), limits)
        async with (
            serving(queued) as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect(PATH) as first,
            http.ws_connect(PATH) as second,
        ):
            for socket in (first, second):
                await socket.send_json(GENERATE)
                assert "started" == (await socket.receive_json(timeout=5))["type"]
            refused = await second.receive_json(timeout=5)
            assert ("error", 5) == (refused["type"], refused["retry_after_seconds"])
            assert "api.max_queued_requests = 0" in refused["message"]

    asyncio.run(scenario())


def test_health_says_what_keeps_the_board_to_those_who_may_know() -> None:
    async def scenario() -> None:
        options: dict[str, Any] = {"api_token": "a-key", "hindrance": lambda: "paused"}
        async with (
            serving(ScriptedGenerator(HELLO), **options) as url,
            aiohttp.ClientSession(url) as http,
        ):
            async with http.get("/health") as answer:
                assert {"status": "ok"} == await answer.json()
            async with http.get("/health", headers={"Authorization": "Bearer a-key"}) as answer:
                assert "paused" == (await answer.json())["hindrance"]

    asyncio.run(scenario())


def test_a_call_that_no_tool_is_for_is_refused_by_name() -> None:
    async def scenario() -> None:
        async with (
            serving(ScriptedGenerator([RequestRefused("never read")])) as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect(PATH) as socket,
        ):
            await socket.send_json({**GENERATE, "tools": [TOOL], "tool_choice": "required now"})
            refused = await socket.receive_json(timeout=5)
            assert ("error", "tool_choice") == (refused["type"], refused["param"])

    asyncio.run(scenario())
