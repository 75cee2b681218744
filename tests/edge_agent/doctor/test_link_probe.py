"""Asking a verifier over a real socket, and what is there in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edge_agent.doctor.link_findings import Greeting
from edge_agent.doctor.link_probe import greet, is_answering, measure_round_trips
from shared.errors import AuthRejected, HandshakeRejected, LinkLost
from tests.support.ends.loopback import running_verifier
from tests.support.ends.scripted import board, scripted_service

STRANGER = f"gsd_stranger_{'A' * 43}"


def test_round_trips_of_a_verifier() -> None:
    async def ask() -> list[float]:
        async with running_verifier(scripted_service()) as verifier:
            assert await is_answering("127.0.0.1", verifier.port)
            return await measure_round_trips(verifier.url, 3)

    samples = asyncio.run(ask())
    assert 3 == len(samples)
    assert all(0 < sample < 5 for sample in samples)


def test_nothing_is_there() -> None:
    assert not asyncio.run(is_answering("127.0.0.1", 1))
    with pytest.raises(LinkLost, match=r"cannot reach the verifier at ws://127\.0\.0\.1:1"):
        asyncio.run(measure_round_trips("ws://127.0.0.1:1", 3))


def loading() -> web.Response:
    return web.json_response({"status": "loading"}, status=503)


def other_server() -> web.Response:
    return web.Response(text="It works!", status=404)


@pytest.mark.parametrize(
    ("answer", "words"), [(loading, "is loading its model"), (other_server, "answers 404")]
)
def test_something_else_is_there(answer: Callable[[], web.Response], words: str) -> None:
    async def respond(_request: web.Request) -> web.Response:
        return answer()

    async def ask() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", respond)
        async with TestServer(app) as server:
            await measure_round_trips(f"ws://127.0.0.1:{server.port}", 1)

    with pytest.raises(LinkLost, match=words):
        asyncio.run(ask())


async def visit(token: str | None = None) -> Greeting:
    async with running_verifier(scripted_service()) as verifier:
        return await greet(verifier.url, token or verifier.tokens["board"], board())


def test_a_welcome() -> None:
    greeting = asyncio.run(visit())
    assert (64, 0) == (greeting.num_shared, greeting.num_lacked)


def test_a_token_that_is_not_known() -> None:
    with pytest.raises(AuthRejected):
        asyncio.run(visit(STRANGER))


def test_another_vocabulary() -> None:
    async def visit_with_other_words() -> None:
        drafter = board()
        words = list(drafter.token_bytes)
        words[5] = b"something else"
        drafter.token_bytes = words
        async with running_verifier(scripted_service()) as verifier:
            await greet(verifier.url, verifier.tokens["board"], drafter)

    with pytest.raises(HandshakeRejected, match="something else"):
        asyncio.run(visit_with_other_words())
