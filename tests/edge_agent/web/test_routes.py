"""The web chat's page and parts over a real loopback socket: headers, sizes, versions, keys."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge_agent.generation.scripted_generator import ScriptedGenerator
from edge_agent.web.assets import read_assets
from tests.support.ends.api_server import HELLO, serving

ROOT = Path(__file__).parents[3]
MAX_PAGE_BYTES = 120_000
KEY = "a-key-of-more-than-sixteen"


@asynccontextmanager
async def browsing(**options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving(ScriptedGenerator(HELLO), **options) as url,
        aiohttp.ClientSession(url) as http,
    ):
        yield http


async def read_page(http: aiohttp.ClientSession) -> tuple[aiohttp.ClientResponse, str]:
    async with http.get("/") as response:
        return response, await response.text()


def modules() -> dict[str, str]:
    """The scripts that the page is made of, as they lie in the repository."""
    folders = (ROOT / "edge_agent/web/page", ROOT / "shared/web/page")
    files = [file for folder in folders for file in folder.rglob("*.js")]
    return {str(file.relative_to(ROOT)): file.read_text() for file in files}


def test_the_page_is_one_answer_of_at_most_120_kilobytes() -> None:
    async def scenario() -> None:
        async with browsing() as http:
            response, page = await read_page(http)
            assert 10_000 < len(page.encode()) <= MAX_PAGE_BYTES
            assert (200, "text/html") == (response.status, response.content_type)
            assert [] == re.findall(r'(?:href|src)="(?!#|data:)', page)

    asyncio.run(scenario())


def test_the_page_binds_the_browser_to_its_own_script_and_style() -> None:
    async def scenario() -> None:
        async with browsing() as http:
            response, page = await read_page(http)
        policy = response.headers["Content-Security-Policy"].split("; ")
        digests = {}
        for tag in ("script", "style"):
            (text,) = re.findall(f"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL)
            digests[tag] = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert {
            "default-src 'none'",
            f"script-src 'sha256-{digests['script']}'",
            f"style-src 'sha256-{digests['style']}'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        } == set(policy)
        assert "nosniff" == response.headers["X-Content-Type-Options"]
        assert " style=" not in page

    asyncio.run(scenario())


def test_what_a_browser_has_already_is_not_sent_again() -> None:
    async def scenario() -> None:
        async with browsing() as http:
            response, _ = await read_page(http)
            etag = response.headers["ETag"]
            assert "no-cache" == response.headers["Cache-Control"]
            known = {"If-None-Match": f'"another", {etag}'}
            async with http.get("/", headers=known) as again:
                assert (304, b"", etag) == (
                    again.status,
                    await again.read(),
                    again.headers["ETag"],
                )
            async with http.get("/", headers={"If-None-Match": '"another"'}) as other:
                assert 200 == other.status

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/web/", "/page.html", "/web/main.js", "/web/../app.py"])
def test_nothing_else_is_served(path: str) -> None:
    async def scenario() -> int:
        async with browsing() as http, http.get(path) as response:
            return response.status

    assert 404 == asyncio.run(scenario())


def test_every_module_is_part_of_the_page() -> None:
    page = read_assets()["/"].body.decode()
    unused = {name for name in modules() if f"// {name}\n" not in page}
    assert set() == unused


def test_no_module_reads_html() -> None:
    words = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser")
    texts = modules()
    assert 10 < len(texts)
    assert [] == [(path, word) for path, text in texts.items() for word in words if word in text]


def test_the_page_needs_no_key_and_what_it_asks_for_does() -> None:
    async def scenario() -> None:
        async with browsing(api_token=KEY) as http:
            async with http.get("/") as response:
                assert 200 == response.status
            async with http.get("/v1/models") as response:
                assert 401 == response.status

    asyncio.run(scenario())


def test_a_page_under_a_made_up_name_is_not_served() -> None:
    async def scenario() -> int:
        async with browsing() as http, http.get("/", headers={"Host": "evil.example"}) as response:
            return response.status

    assert 403 == asyncio.run(scenario())
