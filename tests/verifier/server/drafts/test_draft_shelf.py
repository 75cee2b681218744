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
from verifier.drafts.draft_store import DraftStore
from verifier.drafts.kept_draft import KeptDraft
from verifier.server.drafts.draft_shelf import DraftShelf

CONTENT = os.urandom(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def check_fit(path: Path) -> None:
    if path.stem == "foreign":
        raise ModelError("its token id 7 is b'a', and the target's is b'b'")


Ask = Callable[..., Awaitable[tuple[int, bytes]]]


def with_shelf(
    directory: Path | None,
    scenario: Callable[[Ask, DraftShelf], Awaitable[None]],
    store: DraftStore | None = None,
) -> None:
    async def serve() -> None:
        shelf = DraftShelf(check_fit, bytes_per_second=1e9, directory=directory, store=store)
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
            ((name, one),) = (await shelf.offered()).items()
            offer = one.offer
            assert name == offer.name
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
        before = (await shelf.offered())["wren"].offer
        fresh = directory / "new"
        fresh.write_bytes(CONTENT[::-1])
        fresh.replace(directory / "wren.gguf")
        after = (await shelf.offered())["wren"].offer
        assert before.sha256 != after.sha256
        old_part = await ask("wren", Range="bytes=5-", If_Range=f'"{before.sha256}"')
        assert (200, CONTENT[::-1]) == old_part

    with_shelf(directory, scenario)


def test_a_folder_that_is_not_there_offers_nothing(tmp_path: Path) -> None:
    async def scenario(ask: Ask, shelf: DraftShelf) -> None:
        assert {} == await shelf.offered()
        assert 404 == (await ask("wren"))[0]

    with_shelf(tmp_path / "none", scenario)


def test_all_downloads_together_keep_to_the_rate(directory: Path) -> None:
    async def scenario() -> float:
        shelf = DraftShelf(check_fit, bytes_per_second=1_000_000, directory=directory)
        began_at = time.monotonic()
        await asyncio.gather(*(shelf._pace.wait(100_000) for _ in range(6)))
        return time.monotonic() - began_at

    assert 0.5 <= asyncio.run(scenario())


def described(path: Path, sha256: str, num_bytes: int) -> KeptDraft:
    return KeptDraft(sha256, num_bytes, "v", licence="MIT", labels=("code",))


def test_the_registry_is_offered_by_its_names_and_before_the_folder(directory: Path) -> None:
    store = DraftStore(directory / "registry")
    (directory / "finch").write_bytes(CONTENT[::-1])
    for name in ("finch", "wren"):
        store.add(name, directory / "finch", described)

    async def scenario(ask: Ask, shelf: DraftShelf) -> None:
        found = await shelf.offered()
        assert {"finch", "wren"} == set(found)
        assert ("MIT", ("code",)) == (found["wren"].offer.licence, found["wren"].offer.labels)
        assert (200, CONTENT[::-1]) == await ask("wren")
        store.change("wren", lambda kept: KeptDraft(kept.sha256, kept.num_bytes, "v"))
        assert () == (await shelf.offered())["wren"].offer.labels
        store.remove("wren")
        assert (200, CONTENT) == await ask("wren"), "now it is the folder's"

    with_shelf(directory, scenario, store)


def test_a_damaged_draft_of_the_registry_is_not_offered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "wren").write_bytes(CONTENT)
    store = DraftStore(tmp_path / "registry")
    kept = store.add("wren", tmp_path / "wren", described)
    store.path_of(kept).write_bytes(CONTENT[:-1])

    async def scenario(ask: Ask, shelf: DraftShelf) -> None:
        assert {} == await shelf.offered()
        assert 404 == (await ask("wren"))[0]
        store.path_of(kept).unlink()
        assert {} == await shelf.offered()

    with_shelf(None, scenario, store)
    assert "the registry's wren is not offered to boards: it is damaged" in caplog.text
