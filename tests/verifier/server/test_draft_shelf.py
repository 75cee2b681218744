"""What boards may pull: files that fit, in whole or from a byte on, no faster than is allowed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from shared.errors import ModelError
from verifier.server.draft_shelf import DraftShelf

CONTENT = os.urandom(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def check_fit(path: Path) -> None:
    if path.stem == "foreign":
        raise ModelError("its token id 7 is b'a', and the target's is b'b'")


Ask = Callable[..., Awaitable[tuple[int, bytes]]]


def with_shelf(directory: Path, scenario: Callable[[Ask, DraftShelf], Awaitable[None]]) -> None:
    async def serve() -> None:
        shelf = DraftShelf(directory, check_fit, bytes_per_second=1e9)
        app = web.Application()

        async def send(request: web.Request) -> web.StreamResponse:
            return await shelf.send(request, request.match_info["name"])

        app.router.add_get("/{name}", send)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]

        async def ask(name: str, **headers: str) -> tuple[int, bytes]:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://{host}:{port}/{name}", headers=named) as answer,
            ):
                return answer.status, await answer.read()

        try:
            await scenario(ask, shelf)
        finally:
            await runner.cleanup()

    asyncio.run(serve())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "wren.gguf").write_bytes(CONTENT)
    (tmp_path / "foreign.gguf").write_bytes(b"GGUF")
    (tmp_path / "a b.gguf").write_bytes(b"GGUF")
    (tmp_path / "secret.txt").write_bytes(b"token")
    return tmp_path


def test_only_what_fits_is_offered(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(_ask: Ask, shelf: DraftShelf) -> None:
        for _ in range(2):
            (offer,) = await shelf.offers()
            assert ("wren", len(CONTENT), SHA256) == (offer.name, offer.num_bytes, offer.sha256)

    with_shelf(directory, scenario)
    said = [record.getMessage() for record in caplog.records]
    path = directory / "foreign.gguf"
    assert [
        f"{path} is not offered to boards: its token id 7 is b'a', and the target's is b'b'"
    ] == said


def test_a_file_is_sent_whole_or_from_a_byte_on(directory: Path) -> None:
    async def scenario(ask: Ask, _shelf: DraftShelf) -> None:
        assert (200, CONTENT) == await ask("wren")
        for start in (1, 65_536, len(CONTENT) - 1):
            assert (206, CONTENT[start:]) == await ask("wren", Range=f"bytes={start}-")
            same = await ask("wren", Range=f"bytes={start}-", If_Range=f'"{SHA256}"')
            assert (206, CONTENT[start:]) == same
        assert (200, CONTENT) == await ask("wren", Range="bytes=5-", If_Range='"other"')
        assert 416 == (await ask("wren", Range=f"bytes={len(CONTENT)}-"))[0]
        for range_ in ("bytes=-5", "bytes=1-2", "lines=1-", f"bytes={'9' * 400}-"):
            assert (200, CONTENT) == await ask("wren", Range=range_)

    with_shelf(directory, scenario)


@pytest.mark.parametrize("name", ["foreign", "a%20b", "secret.txt", "..%2Fwren", "nothing"])
def test_nothing_else_is_sent(directory: Path, name: str) -> None:
    async def scenario(ask: Ask, _shelf: DraftShelf) -> None:
        assert 404 == (await ask(name))[0]

    with_shelf(directory, scenario)


def test_a_replaced_file_is_another_offer(directory: Path) -> None:
    async def scenario(ask: Ask, shelf: DraftShelf) -> None:
        (before,) = await shelf.offers()
        fresh = directory / "new"
        fresh.write_bytes(CONTENT[::-1])
        fresh.replace(directory / "wren.gguf")
        (after,) = await shelf.offers()
        assert before.sha256 != after.sha256
        old_part = await ask("wren", Range="bytes=5-", If_Range=f'"{before.sha256}"')
        assert (200, CONTENT[::-1]) == old_part

    with_shelf(directory, scenario)


def test_a_folder_that_is_not_there_offers_nothing(tmp_path: Path) -> None:
    async def scenario(ask: Ask, shelf: DraftShelf) -> None:
        assert () == await shelf.offers()
        assert 404 == (await ask("wren"))[0]

    with_shelf(tmp_path / "none", scenario)


def test_all_downloads_together_keep_to_the_rate(directory: Path) -> None:
    async def scenario() -> float:
        shelf = DraftShelf(directory, check_fit, bytes_per_second=1_000_000)
        began_at = time.monotonic()
        await asyncio.gather(*(shelf._pace.wait(100_000) for _ in range(6)))
        return time.monotonic() - began_at

    assert 0.5 <= asyncio.run(scenario())
