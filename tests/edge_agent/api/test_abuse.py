"""The board's own port under abuse: slow, large, deep, compressed, many at once."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, get_args

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.api import app, chat_socket
from edge_agent.api.access import names_its_socket
from edge_agent.api.answers.patience import Patience
from edge_agent.api.json_fields import read_json_object
from edge_agent.api.large_body_reader import BodyKind, read_body
from edge_agent.api.openai_request import read_chat_request
from edge_agent.api.request_bodies import MAX_BODY_BYTES
from edge_agent.generation.scripted_generator import ScriptedGenerator
from shared.daemon import http_server
from shared.daemon.connection_gate import GateLimits
from shared.errors import RequestRefused
from tests.support.ends.api_server import HELLO, serving
from tests.support.network.strangers import stranger, strangers, upgrade

CHAT_PATH, SOCKET_PATH = "/v1/chat/completions", "/v1/chat/socket"
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
SOON_SECONDS = 0.3
PATIENCE_SECONDS = 10.0


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that waits for clients no longer than a moment."""
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", SOON_SECONDS)
    soon = {"idle_seconds": 2 * SOON_SECONDS, "stall_seconds": SOON_SECONDS}
    monkeypatch.setattr(http_server, "GateLimits", lambda **given: GateLimits(**{**given, **soon}))


async def still_answers(url: str) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(url + CHAT_PATH, json=CHAT) as response,
    ):
        assert 200 == response.status


@asynccontextmanager
async def asked_until(
    status: int, http: aiohttp.ClientSession
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The first answer of this status; requests before it are answered otherwise."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with http.post(CHAT_PATH, json=CHAT) as response:
                if response.status == status:
                    yield response
                    return


# --- slow ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("said", [b"", b"POST /v1/chat", b"GET /v1/models HTTP/1.1\r\nX-Slow: "])
def test_a_connection_without_a_request_is_closed(said: bytes) -> None:
    async def scenario() -> None:
        async with serving(ScriptedGenerator(HELLO)) as url, stranger(port_of(url)) as one:
            await one.send(said)
            assert b"" == await one.answer()
            await still_answers(url)

    asyncio.run(scenario())


def head_of_a_chat(length: int, *headers: str) -> bytes:
    lines = (f"POST {CHAT_PATH} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}")
    return "\r\n".join((*lines, *headers)).encode() + b"\r\n\r\n"


def test_a_body_that_trickles_in_gets_no_more_time() -> None:
    async def scenario() -> None:
        patience = Patience(body_seconds=SOON_SECONDS)
        async with (
            serving(ScriptedGenerator(HELLO), patience=patience) as url,
            stranger(port_of(url)) as one,
        ):
            await one.send(head_of_a_chat(10_000))
            trickling = asyncio.create_task(one.trickle(b" "))
            assert b"HTTP/1.1 408 Request Timeout\r\n" == await one.line()
            trickling.cancel()
            await asyncio.wait({trickling})

    asyncio.run(scenario())


# --- large and deep -----------------------------------------------------------------------------


def test_a_compressed_body_is_measured_as_it_comes_out() -> None:
    async def scenario() -> None:
        bomb = gzip.compress(b"[" * (5 * MAX_BODY_BYTES), 9)
        assert len(bomb) < MAX_BODY_BYTES
        async with serving(ScriptedGenerator(HELLO)) as url, aiohttp.ClientSession(url) as http:
            headers = {"Content-Encoding": "gzip"}
            async with http.post(CHAT_PATH, data=bomb, headers=headers) as response:
                assert 413 == response.status
            await still_answers(url)

    asyncio.run(scenario())


DEEP = [
    b'{"messages":' + b"[" * 500_000,
    b'{"messages":' + b'[{"content":' * 40_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"messages":[{"role":"user","content":' + b"[" * 900 + b"]" * 900 + b"}]}",
]


@pytest.mark.parametrize("body", DEEP)
def test_a_body_of_nothing_but_brackets_is_a_400(body: bytes) -> None:
    async def scenario() -> None:
        async with serving(ScriptedGenerator(HELLO)) as url, aiohttp.ClientSession(url) as http:
            async with http.post(CHAT_PATH, data=body) as response:
                assert 400 == response.status
            await still_answers(url)

    asyncio.run(scenario())


# JSON with the fields that are read, of any kind and at any depth.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["user", "system", "text", "generate", "coupled", "json_object"])
)
NAMES = (
    *("messages", "role", "content", "type", "text", "prompt", "stop", "n", "seed", "temperature"),
    *("top_p", "top_k", "max_tokens", "max_completion_tokens", "stream", "stream_options", "tools"),
    *("input", "system", "instructions", "options", "metadata", "reasoning", "think", "raw"),
    *("include_usage", "goodspeed", "draft_length", "acceptance_mode", "response_format"),
)
names = st.sampled_from(NAMES)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def refusal_of(read: Callable[[], object]) -> str | None:
    """The sentence that a client gets, if any; no other exception may come."""
    try:
        read()
    except RequestRefused as refusal:
        return str(refusal)
    return None


@given(st.dictionaries(names, values, max_size=6))
def test_any_json_is_a_request_or_refused_by_name(fields: dict[str, Any]) -> None:
    body = json.dumps(fields)
    for kind in get_args(BodyKind):
        sentence = refusal_of(lambda kind=kind: read_body(body, kind))
        assert sentence is None or 0 < len(sentence) < 500


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_anything_else_is_refused(body: bytes | str) -> None:
    assert "" != refusal_of(lambda: read_json_object(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        b'{"messages":[{"role":"user","content":"x"}],"max_tokens":' + b"9" * 5000 + b"}",
        b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}',
        b'{"messages":[{"role":"user","content":"x"}],"seed":' + b"-" + b"9" * 4000 + b"}",
    ],
)
def test_numbers_and_characters_that_there_are_none_of_are_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_chat_request(read_json_object(body))
    assert len(str(refused.value)) < 300


# --- many ---------------------------------------------------------------------------------------


def test_more_requests_at_once_than_may_be_are_asked_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "MAX_REQUESTS_IN_HAND", 4)

    async def scenario() -> None:
        async with (
            serving(ScriptedGenerator(HELLO)) as url,
            strangers(port_of(url), 4) as slow,
            aiohttp.ClientSession(url) as http,
        ):
            for one in slow:
                await one.send(head_of_a_chat(100) + b"{")
            async with asked_until(503, http) as response:
                error = (await response.json())["error"]
                assert "1" == response.headers["Retry-After"]
                assert "4 requests are being answered already" == error["message"]
            async with http.get("/healthz") as response:
                assert 200 == response.status
            for one in slow:
                one.close()
            async with asked_until(200, http):
                pass

    asyncio.run(scenario())


def test_a_crowd_that_asks_for_nothing_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "MAX_IDLE_CONNECTIONS", 10)

    async def scenario() -> None:
        async with serving(ScriptedGenerator(HELLO)) as url, strangers(port_of(url), 300):
            await still_answers(url)

    asyncio.run(scenario())
    assert 1 == sum("ask for nothing" in message for message in caplog.messages)


def test_noise_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving(ScriptedGenerator(HELLO)) as url:
            for noise in (b"\x16\x03\x01\0\0", b"GET /" + b"a" * 20_000, b"\0" * 1000):
                async with stranger(port_of(url)) as one:
                    await one.send(noise + b"\r\n\r\n")
                    assert (await one.answer())[:12] in (b"", b"HTTP/1.0 400")

    asyncio.run(scenario())
    assert [] == [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# --- chat sockets -------------------------------------------------------------------------------


def test_a_token_that_is_the_only_subprotocol_is_refused_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The HTTP server would warn of subprotocols that it does not know, with the token."""

    async def scenario() -> None:
        async with (
            serving(ScriptedGenerator(HELLO), api_token="secret") as url,
            aiohttp.ClientSession(url) as http,
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(SOCKET_PATH, protocols=("goodspeed.bearer.secret",))
            assert 400 == refused.value.status

    asyncio.run(scenario())
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("offered", "names"),
    [
        (None, True),
        ("goodspeed.chat", True),
        ("goodspeed.bearer.x , goodspeed.chat", True),
        ("goodspeed.bearer.x", False),
        ("chat", False),
    ],
)
def test_a_page_names_the_socket_that_it_wants(offered: str | None, names: bool) -> None:
    headers = {} if offered is None else {"Sec-WebSocket-Protocol": offered}
    assert names is names_its_socket(headers)


def test_a_chat_socket_agrees_on_no_compression() -> None:
    async def scenario() -> None:
        async with serving(ScriptedGenerator(HELLO)) as url, stranger(port_of(url)) as one:
            await one.send(upgrade(SOCKET_PATH, "Sec-WebSocket-Extensions: permessage-deflate"))
            head = await one.head()
            assert b"101" in head
            assert b"extensions" not in head.lower()

    asyncio.run(scenario())


def test_a_flood_of_a_chat_socket_takes_one_turn_of_the_event_loop_for_each_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[int] = []
    num_turns = 0

    async def count_turns() -> None:
        nonlocal num_turns
        while True:
            num_turns += 1
            await asyncio.sleep(0)

    def read(body: bytes) -> dict[str, Any]:
        turns.append(num_turns)
        return read_json_object(body)

    monkeypatch.setattr(chat_socket, "read_json_object", read)

    async def scenario() -> None:
        async with (
            serving(ScriptedGenerator(HELLO)) as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect(SOCKET_PATH) as socket,
        ):
            counting = asyncio.create_task(count_turns())
            for _ in range(300):
                await socket.send_str("{}")
            for _ in range(300):
                assert "error" == (await socket.receive_json(timeout=5))["type"]
            counting.cancel()
            await asyncio.wait({counting})

    asyncio.run(scenario())
    assert 300 == len(turns) == len(set(turns))


def test_a_chat_socket_refuses_deep_json_and_goes_on() -> None:
    async def scenario() -> None:
        async with (
            serving(ScriptedGenerator(HELLO)) as url,
            aiohttp.ClientSession(url) as http,
            http.ws_connect(SOCKET_PATH) as socket,
        ):
            for text in ("[" * 200_000, '{"type":' * 20_000, '{"type": {}}', "\x00"):
                await socket.send_str(text)
                assert "error" == (await socket.receive_json(timeout=5))["type"]
            await socket.send_json({"type": "generate", **CHAT})
            assert "text" in {(await socket.receive_json(timeout=5))["type"] for _ in range(2)}

    asyncio.run(scenario())
