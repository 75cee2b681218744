"""The verifier's port while there is no target."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from shared.daemon.http_server import listen
from shared.protocol.transport import DEVICE_PATH, LOADING_HEADER, VOCABULARY_PATH
from verifier.server import loading_port
from verifier.server.device_tokens import new_token
from verifier.server.loading_port import LoadingPort

TOKEN, LINE = new_token("kitchen", bytes(32))
BEARER = {"Authorization": f"Bearer {TOKEN}"}
Ask = Callable[..., "asyncio.Task[tuple[int, str, str | None]]"]


@asynccontextmanager
async def loading(percent: int | None = 43) -> AsyncIterator[tuple[LoadingPort, Ask]]:
    """A port, and what asks it: status, text and how much is loaded."""
    sockets = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    port = LoadingPort(
        dict([LINE.split()]), lambda: percent, max_connections=10, stranger_limits=None
    )
    await port.start(sockets)
    async with aiohttp.ClientSession() as session:

        async def ask(path: str, **headers: str) -> tuple[int, str, str | None]:
            async with session.get(url + path, headers=headers) as answer:
                return answer.status, await answer.text(), answer.headers.get(LOADING_HEADER)

        try:
            yield port, lambda path, **headers: asyncio.create_task(ask(path, **headers))
        finally:
            await port.stop()
            for listening in sockets:
                listening.close()


@pytest.mark.parametrize(
    ("percent", "expected", "header"),
    [(43, '{"status": "loading", "percent": 43}', "43"), (None, '{"status": "loading"}', "")],
)
def test_health_tells_how_much_is_loaded(percent: int | None, expected: str, header: str) -> None:
    async def ask() -> tuple[int, str, str | None]:
        async with loading(percent) as (_, ask):
            return await ask("/healthz")

    assert (503, expected, header) == asyncio.run(ask())


@pytest.mark.parametrize("path", [DEVICE_PATH, VOCABULARY_PATH])
def test_a_board_is_told_at_once_and_then_held_until_the_target_is_there(path: str) -> None:
    async def scene() -> None:
        async with loading() as (port, ask):
            sentence = (503, "the verifier is loading its model, 43 %\n", "43")
            assert sentence == await ask(path, **BEARER)
            held = ask(path, **BEARER)
            assert sentence == await ask(path, **BEARER), "only one is held"
            await asyncio.sleep(0.1)
            assert not held.done()
            stopped_at = time.monotonic()
            await port.stop()
            assert 503 == (await held)[0]
            assert time.monotonic() - stopped_at < 1

    asyncio.run(scene())


def test_no_board_is_held_longer_than_it_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading_port, "HOLD_SECONDS", 0.1)

    async def scene() -> None:
        async with loading() as (_, ask):
            for _ in range(3):
                assert 503 == (await asyncio.wait_for(ask(DEVICE_PATH, **BEARER), 5))[0]

    asyncio.run(scene())


@pytest.mark.parametrize("token", [None, "gsd_kitchen_wrong", new_token("garage", bytes(32))[0]])
def test_a_stranger_is_refused_as_ever_and_learns_nothing(token: str | None) -> None:
    async def ask() -> tuple[int, str, str | None]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with loading() as (_, ask):
            return await ask(DEVICE_PATH, **headers)

    assert (401, "this verifier does not know the token\n", None) == asyncio.run(ask())


@pytest.mark.parametrize("path", ["/metrics", "/dashboard", "/dashboard/state"])
def test_metrics_and_the_dashboard_wait_for_the_target(path: str) -> None:
    async def ask() -> tuple[int, str, str | None]:
        async with loading() as (_, ask):
            return await ask(path)

    status, words, _ = asyncio.run(ask())
    assert 503 == status
    assert words.startswith("the verifier is loading its model")


def test_the_listening_sockets_stay_open() -> None:
    async def scene() -> None:
        sockets = listen("127.0.0.1", 0)
        port = LoadingPort({}, lambda: None, max_connections=10, stranger_limits=None)
        await port.start(sockets)
        await port.stop()
        sockets[0].settimeout(5)
        accepting = asyncio.create_task(asyncio.to_thread(sockets[0].accept))
        _, writer = await asyncio.open_connection(*sockets[0].getsockname()[:2])
        accepted, _ = await accepting
        accepted.close()
        writer.close()
        for listening in sockets:
            listening.close()

    asyncio.run(scene())
