"""Clients that say no more after their request, as `nc` does, and such as leave."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from edge_agent.generation.scripted_generator import ScriptedGenerator
from tests.support.ends.api_server import HELLO, serving

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
CASES: list[tuple[str, dict[str, Any], bytes]] = [
    ("/v1/chat/completions", CHAT, b'"finish_reason":'),
    ("/v1/chat/completions", {**CHAT, "stream": True}, b"data: [DONE]"),
    ("/api/chat", CHAT, b'"done":true'),
    ("/v1/messages", {**CHAT, "stream": True}, b"message_stop"),
]


def request_of(path: str, fields: dict[str, Any], version: str = "1.1") -> bytes:
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(("path", "fields", "end"), CASES)
def test_one_that_says_no_more_has_its_answer_and_then_the_end(
    path: str, fields: dict[str, Any], end: bytes, version: str
) -> None:
    async def scenario() -> None:
        async with serving(ScriptedGenerator(HELLO)) as url:
            reader, writer = await connect(url)
            writer.write(request_of(path, fields, version))
            writer.write_eof()
            async with asyncio.timeout(5):
                answer = await reader.read()
            writer.close()
            assert b" 200 OK\r\n" in answer
            assert b"world" in answer
            assert end in answer.replace(b'": ', b'":')

    asyncio.run(scenario())


@pytest.mark.parametrize(("path", "fields", "end"), CASES)
def test_one_that_waits_for_long_is_shown_that_it_is_thought_of(
    path: str, fields: dict[str, Any], end: bytes
) -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        async with serving(ScriptedGenerator([*HELLO[:1], go_on, *HELLO[1:]])) as url:
            reader, writer = await connect(url)
            writer.write(request_of(path, fields))
            writer.write_eof()
            async with asyncio.timeout(5):
                beginning = await reader.readuntil(b"\r\n\r\n")
                assert beginning.startswith((b"HTTP/1.1 102 ", b"HTTP/1.1 200 "))
                go_on.set()
                assert end in (await reader.read()).replace(b'": ', b'":')
            writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(("path", "fields", "end"), CASES)
def test_one_that_is_gone_ends_its_generation(
    path: str, fields: dict[str, Any], end: bytes
) -> None:
    async def scenario() -> None:
        generator = ScriptedGenerator([*HELLO, asyncio.Event()])
        async with serving(generator) as url:
            _, writer = await connect(url)
            writer.write(request_of(path, fields))
            await generator.was_asked.wait()
            writer.close()
            async with asyncio.timeout(5):
                await generator.was_cancelled.wait()

    asyncio.run(scenario())


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("said", [b"", b"POST /v1/chat", request_of(CASES[0][0], CHAT)[:-1]])
def test_one_that_does_not_say_all_is_let_go(said: bytes, is_late: bool) -> None:
    async def scenario() -> None:
        async with serving(ScriptedGenerator(HELLO)) as url:
            reader, writer = await connect(url)
            writer.write(said)
            if is_late:
                await asyncio.sleep(0.05)
            writer.write_eof()
            async with asyncio.timeout(5):
                assert b" 200 " not in await reader.read()
            writer.close()

    asyncio.run(scenario())
