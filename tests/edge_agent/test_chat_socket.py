"""The chat socket over a real loopback websocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from edge_agent.chat_messages import MAX_CLIENT_MESSAGE_BYTES
from edge_agent.generation import TextPiece
from edge_agent.scripted_generator import ScriptedGenerator, Step
from shared.errors import RequestRefused, VerifierAway
from shared.messages import ChatMessage
from tests.support.api_server import HELLO, serving

PATH = "/v1/chat/socket"
GENERATE = {"type": "generate", "messages": [{"role": "user", "content": "hi"}]}
CANCEL = {"type": "cancel"}
TEXTS = [{"type": "text", "text": piece.text, "origin": piece.origin} for piece in HELLO]


@asynccontextmanager
async def chatting(
    script: Sequence[Step] = HELLO,
) -> AsyncIterator[tuple[ClientWebSocketResponse, ScriptedGenerator]]:
    generator = ScriptedGenerator(script)
    async with (
        serving(generator) as url,
        aiohttp.ClientSession(url) as http,
        http.ws_connect(PATH) as socket,
    ):
        yield socket, generator


async def answer(socket: ClientWebSocketResponse) -> list[dict[str, Any]]:
    """The messages up to the end of one generation."""
    messages = [await socket.receive_json(timeout=5)]
    while messages[-1]["type"] == "text" or messages[-1].get("is_generating"):
        messages.append(await socket.receive_json(timeout=5))
    return messages


def test_an_answer_is_texts_with_their_origin_and_one_end() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            await socket.send_json({**GENERATE, "seed": 5, "goodspeed": {"draft_length": 2}})
            *texts, finished = await answer(socket)
            assert TEXTS == texts
            assert ("finished", "end", 5, "rejection", 3, 1) == (
                finished["type"],
                finished["reason"],
                finished["seed"],
                finished["acceptance_mode"],
                finished["timings"]["output_tokens"],
                finished["timings"]["accepted_tokens"],
            )

    asyncio.run(scenario())


def test_request_fields_are_those_of_a_chat_request() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, generator):
            await socket.send_json({**GENERATE, "temperature": 0, "max_tokens": 2, "stop": "x"})
            assert "length" == (await answer(socket))[-1]["reason"]
            (request,) = generator.requests
            assert (0, 2, ("x",)) == (
                request.sampling.temperature,
                request.max_tokens,
                request.stop,
            )
            assert (ChatMessage("user", "hi"),) == request.messages

    asyncio.run(scenario())


def test_many_answers_come_one_after_the_other() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            for _round in range(3):
                await socket.send_json(GENERATE)
                assert TEXTS == (await answer(socket))[:-1]

    asyncio.run(scenario())


def test_a_second_request_meanwhile_is_refused_and_the_first_goes_on() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()
        async with chatting([go_on, *HELLO]) as (socket, _):
            await socket.send_json(GENERATE)
            await socket.send_json(GENERATE)
            refused = await socket.receive_json(timeout=5)
            assert ("error", True) == (refused["type"], refused["is_generating"])
            go_on.set()
            assert "finished" == (await answer(socket))[-1]["type"]

    asyncio.run(scenario())


def test_cancel_ends_the_answer_and_the_socket_goes_on() -> None:
    async def scenario() -> None:
        async with chatting([TextPiece("Hel", "target"), asyncio.Event()]) as (socket, generator):
            await socket.send_json(GENERATE)
            await socket.receive_json(timeout=5)
            await socket.send_json(CANCEL)
            (finished,) = await answer(socket)
            assert ("finished", "cancelled", None) == (
                finished["type"],
                finished["reason"],
                finished["timings"],
            )
            assert 0 == generator.num_running
            generator.script = HELLO
            await socket.send_json(GENERATE)
            assert TEXTS == (await answer(socket))[:-1]

    asyncio.run(scenario())


def test_a_late_or_idle_cancel_is_ignored() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            await socket.send_json(CANCEL)
            await socket.send_json(GENERATE)
            await answer(socket)
            await socket.send_json(CANCEL)
            await socket.send_json(GENERATE)
            assert TEXTS == (await answer(socket))[:-1]

    asyncio.run(scenario())


@pytest.mark.parametrize("code", [1000, 1001])
def test_leaving_cancels_the_generation(code: int) -> None:
    async def scenario() -> None:
        async with chatting([asyncio.Event()]) as (socket, generator):
            await socket.send_json(GENERATE)
            await generator.was_asked.wait()
            await socket.close(code=code)
            async with asyncio.timeout(5):
                await generator.was_cancelled.wait()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ("{", None),
        ("[]", None),
        ("{}", "type"),
        ('{"type": "generated"}', "type"),
        ('{"type": ["generate"]}', "type"),
        ('{"type": "generate"}', "messages"),
        ('{"type": "generate", "messages": [{"role": "user", "content": "hi"}], "n": 3}', "n"),
    ],
)
def test_a_bad_message_is_one_error_and_changes_nothing_else(sent: str, param: str | None) -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            await socket.send_str(sent)
            (refused,) = await answer(socket)
            assert ("error", param) == (refused["type"], refused["param"])
            await socket.send_json(GENERATE)
            assert TEXTS == (await answer(socket))[:-1]

    asyncio.run(scenario())


def test_a_binary_message_is_an_error() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            await socket.send_bytes(b"\x00")
            assert "only text messages are understood" == (await answer(socket))[0]["message"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "param"),
    [
        (VerifierAway("the verifier is away"), None),
        (RequestRefused("too long", "messages"), "messages"),
    ],
)
def test_a_failed_generation_is_an_error(
    error: VerifierAway | RequestRefused, param: str | None
) -> None:
    async def scenario() -> None:
        async with chatting([error]) as (socket, _):
            await socket.send_json(GENERATE)
            (failed,) = await answer(socket)
            assert (str(error), param, False) == (
                failed["message"],
                failed["param"],
                failed["is_generating"],
            )

    asyncio.run(scenario())


def test_a_bug_of_ours_is_an_error_without_details() -> None:
    async def scenario() -> None:
        class BrokenGenerator(ScriptedGenerator):
            async def generate(self, request: Any) -> AsyncIterator[Any]:
                yield HELLO[0]
                raise ZeroDivisionError("secret")

        async with (
            serving(BrokenGenerator(())) as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect(PATH) as socket,
        ):
            await socket.send_json(GENERATE)
            assert "the agent failed; its log says why" == (await answer(socket))[-1]["message"]

    asyncio.run(scenario())


def test_too_long_a_message_closes_the_socket() -> None:
    async def scenario() -> None:
        async with chatting() as (socket, _):
            await socket.send_str("x" * (MAX_CLIENT_MESSAGE_BYTES + 1))
            closed = await socket.receive(timeout=5)
            assert (WSMsgType.CLOSE, 1009) == (closed.type, closed.data)

    asyncio.run(scenario())


def test_a_stopping_agent_says_goodbye() -> None:
    async def scenario() -> None:
        async with aiohttp.ClientSession() as http:
            async with serving(ScriptedGenerator([asyncio.Event()])) as url:
                socket = await http.ws_connect(url + PATH)
                await socket.send_json(GENERATE)
                receiving = asyncio.create_task(socket.receive(timeout=5))
            closed = await receiving
            assert (WSMsgType.CLOSE, 1001) == (closed.type, closed.data)

    asyncio.run(scenario())


def test_a_foreign_page_may_not_connect() -> None:
    async def scenario() -> None:
        async with serving(ScriptedGenerator(HELLO)) as url, aiohttp.ClientSession(url) as http:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(PATH, origin="https://evil.example")
            assert 403 == refused.value.status

    asyncio.run(scenario())


def test_a_page_brings_its_token_as_a_subprotocol() -> None:
    async def scenario() -> None:
        generator = ScriptedGenerator(HELLO)
        protocols = ("goodspeed.chat", "goodspeed.bearer.secret")
        async with (
            serving(generator, api_token="secret") as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect(PATH, origin=url, protocols=protocols) as socket,
        ):
            assert "goodspeed.chat" == socket.protocol
            await socket.send_json(GENERATE)
            assert TEXTS == (await answer(socket))[:-1]

    asyncio.run(scenario())
