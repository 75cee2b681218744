"""The web chat's page and parts over a real loopback socket: headers, sizes, versions, keys."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from edge_agent.generation.scripted_generator import ScriptedGenerator
from edge_agent.web.assets import read_assets
from tests.support.ends.api_server import HELLO, serving

MAX_PAGE_BYTES = 120_000
KEY = "a-key-of-more-than-sixteen"


@asynccontextmanager
async def browsing(**options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving(ScriptedGenerator(HELLO), **options) as url,
        aiohttp.ClientSession(url) as http,
    ):
        yield http


def part(name: str) -> str:
    (path,) = (path for path in read_assets() if path.endswith(f"/{name}"))
    return path


async def read_all(http: aiohttp.ClientSession) -> dict[str, aiohttp.ClientResponse]:
    responses = {}
    for path in read_assets():
        async with http.get(path) as response:
            await response.read()
            responses[path] = response
    return responses


def test_the_page_and_all_its_parts_have_at_most_120_kilobytes() -> None:
    async def size() -> int:
        async with browsing() as http:
            return sum(
                [response.content_length or 0 for response in (await read_all(http)).values()]
            )

    assert 10_000 < asyncio.run(size()) <= MAX_PAGE_BYTES


def test_every_part_binds_the_browser() -> None:
    async def scenario() -> None:
        async with browsing() as http:
            for path, response in (await read_all(http)).items():
                assert 200 == response.status, path
                policy = response.headers["Content-Security-Policy"].split("; ")
                assert {
                    "default-src 'none'",
                    "script-src 'self'",
                    "style-src 'self'",
                    "connect-src 'self'",
                    "img-src 'self' data:",
                    "base-uri 'none'",
                    "form-action 'none'",
                    "frame-ancestors 'none'",
                } <= set(policy)
                assert "nosniff" == response.headers["X-Content-Type-Options"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("main.js", "text/javascript"),
        ("style.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_parts_have_their_type(name: str, content_type: str) -> None:
    async def scenario() -> str:
        async with browsing() as http, http.get(part(name)) as response:
            return response.content_type

    assert content_type == asyncio.run(scenario())


def test_only_the_page_is_asked_for_again() -> None:
    """The others have paths that change with them."""

    async def scenario() -> dict[str, str]:
        async with browsing() as http:
            responses = await read_all(http)
            return {path: one.headers["Cache-Control"] for path, one in responses.items()}

    kept = asyncio.run(scenario())
    assert "no-cache" == kept.pop("/")
    assert {"public, max-age=31536000, immutable"} == set(kept.values())
    assert all(re.match(r"/web/[0-9a-f]{16}/[\w/]+\.(js|css|svg)\Z", path) for path in kept)


def test_what_a_browser_has_already_is_not_sent_again() -> None:
    async def scenario() -> None:
        async with browsing() as http:
            async with http.get(part("main.js")) as response:
                etag = response.headers["ETag"]
            known = {"If-None-Match": f'"another", {etag}'}
            async with http.get(part("main.js"), headers=known) as response:
                assert (304, b"", etag) == (
                    response.status,
                    await response.read(),
                    response.headers["ETag"],
                )
            other = {"If-None-Match": '"another"'}
            async with http.get(part("main.js"), headers=other) as response:
                assert 200 == response.status

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/web/", "/page.html", "/web/main.js", "/web/../app.py"])
def test_nothing_else_is_served(path: str) -> None:
    async def scenario() -> int:
        async with browsing() as http, http.get(path) as response:
            return response.status

    assert 404 == asyncio.run(scenario())


def test_the_page_names_only_what_is_served() -> None:
    page = read_assets()["/"].body.decode()
    named = set(re.findall(r'(?:href|src)="(/[^"]+)"', page))
    assert {part("main.js"), part("style.css")} < named
    assert set() == named - set(read_assets())
    assert "<script>" not in page
    assert " style=" not in page


def test_modules_import_only_what_is_served() -> None:
    for path, asset in read_assets().items():
        for name in re.findall(r'from "\./([^"]+)"', asset.body.decode()):
            assert part(name) in read_assets(), path


def test_no_module_reads_html() -> None:
    words = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser")
    scripts = [path for path in read_assets() if path.endswith(".js")]
    assert 10 < len(scripts)
    texts = {path: read_assets()[path].body.decode() for path in scripts}
    assert [] == [(path, word) for path in scripts for word in words if word in texts[path]]


def test_the_page_needs_no_key_and_what_it_asks_for_does() -> None:
    async def scenario() -> None:
        async with browsing(api_token=KEY) as http:
            for path in ("/", part("main.js")):
                async with http.get(path) as response:
                    assert 200 == response.status
            async with http.get("/v1/models") as response:
                assert 401 == response.status

    asyncio.run(scenario())


def test_a_page_under_a_made_up_name_is_not_served() -> None:
    async def scenario() -> int:
        async with browsing() as http, http.get("/", headers={"Host": "evil.example"}) as response:
            return response.status

    assert 403 == asyncio.run(scenario())
