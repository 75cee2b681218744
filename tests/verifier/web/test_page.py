"""The dashboard over a real loopback socket: who sees it, what binds it, how often it is made."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from shared.daemon.web_page import CONTENT_SECURITY_POLICY
from tests.support.ends.loopback import Verifier, running_verifier
from tests.support.ends.scripted import scripted_service
from verifier.server.operator_pages import DASHBOARD_SECONDS, OperatorAccess, OperatorPage
from verifier.web.assets import PAGE_PATH, STATE_PATH, read_assets

MAX_PAGE_BYTES = 60_000
METRICS_TOKEN = "metrics-of-the-house"
THROUGH_A_PROXY = {"X-Forwarded-For": "203.0.113.9"}


@asynccontextmanager
async def watching(**options: Any) -> AsyncIterator[tuple[Verifier, aiohttp.ClientSession]]:
    async with (
        running_verifier(scripted_service(), ("kitchen",), **options) as verifier,
        aiohttp.ClientSession(f"http://127.0.0.1:{verifier.port}") as http,
    ):
        yield verifier, http


def bearer(token: str | None) -> Mapping[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def test_the_page_and_its_parts_bind_the_browser_and_are_small() -> None:
    async def scenario() -> int:
        num_bytes = 0
        async with watching() as (_, http):
            for path in read_assets():
                async with http.get(path, headers=THROUGH_A_PROXY) as response:
                    num_bytes += len(await response.read())
                    assert 200 == response.status, path
                    assert CONTENT_SECURITY_POLICY == response.headers["Content-Security-Policy"]
                    assert "nosniff" == response.headers["X-Content-Type-Options"]
                    is_page = path == PAGE_PATH
                    assert is_page is ("no-cache" == response.headers["Cache-Control"])
        return num_bytes

    assert 10_000 < asyncio.run(scenario()) <= MAX_PAGE_BYTES


def test_the_page_names_only_what_is_served_and_its_modules_too() -> None:
    assets = read_assets()
    page = assets[PAGE_PATH].body.decode()
    named = set(re.findall(r'(?:href|src)="(/[^"]+)"', page))
    assert set(assets) - {PAGE_PATH} == named
    assert "<script>" not in page
    assert " style=" not in page
    for path, asset in assets.items():
        folder = path.rpartition("/")[0]
        for name in re.findall(r'from "\./([^"]+)"', asset.body.decode()):
            assert f"{folder}/{name}" in assets, path


def test_no_module_reads_html() -> None:
    words = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser")
    texts = {path: one.body.decode() for path, one in read_assets().items() if path.endswith(".js")}
    assert 5 < len(texts)
    assert [] == [(path, word) for path, text in texts.items() for word in words if word in text]


@pytest.mark.parametrize(
    ("access", "headers", "of_a_stranger", "of_a_board"),
    [
        (OperatorAccess(), {}, 200, 200),
        (OperatorAccess(), THROUGH_A_PROXY, 401, 403),
        (OperatorAccess(), {"Host": "verifier.example"}, 401, 403),
        (OperatorAccess(on_loopback=False), {}, 401, 403),
        (OperatorAccess(token=METRICS_TOKEN), THROUGH_A_PROXY, 401, 403),
    ],
)
def test_the_state_is_for_those_who_see_metrics(
    access: OperatorAccess, headers: dict[str, str], of_a_stranger: int, of_a_board: int
) -> None:
    async def statuses() -> list[int]:
        found = []
        async with watching(operator_access=access) as (verifier, http):
            for token in (None, verifier.tokens["kitchen"], METRICS_TOKEN):
                asked = {**headers, **bearer(token)}
                async with http.get(STATE_PATH, headers=asked) as response:
                    text = await response.text()
                assert (200 == response.status) is ("target_model" in text)
                found.append(response.status)
        return found

    of_operator = 200 if access.token else of_a_stranger
    assert [of_a_stranger, of_a_board, of_operator] == asyncio.run(statuses())


def test_the_state_is_json_that_no_cache_keeps_and_no_other_page_reads() -> None:
    async def scenario() -> tuple[Any, Mapping[str, str]]:
        async with watching() as (_, http), http.get(STATE_PATH) as response:
            return json.loads(await response.read()), response.headers

    state, headers = asyncio.run(scenario())
    assert "scripted" == state["target_model"]
    assert "application/json" == headers["Content-Type"]
    assert "no-store" == headers["Cache-Control"]
    assert "same-origin" == headers["Cross-Origin-Resource-Policy"]
    assert "Access-Control-Allow-Origin" not in headers


def test_all_who_ask_within_a_second_get_the_same_state() -> None:
    async def scenario() -> list[float]:
        async with watching() as (_, http):

            async def moment() -> float:
                async with http.get(STATE_PATH) as response:
                    return float((await response.json())["at_seconds"])

            at_once = set(await asyncio.gather(*(moment() for _ in range(20))))
            await asyncio.sleep(DASHBOARD_SECONDS)
            return [*at_once, await moment()]

    first, second = asyncio.run(scenario())
    assert first + DASHBOARD_SECONDS <= second


def test_a_state_that_the_page_has_is_not_sent_again() -> None:
    async def scenario() -> list[tuple[int, bool]]:
        async with watching() as (_, http):
            async with http.get(STATE_PATH) as response:
                tag = response.headers["ETag"]
            found = []
            for pause in (0.0, DASHBOARD_SECONDS):
                await asyncio.sleep(pause)
                async with http.get(STATE_PATH, headers={"If-None-Match": tag}) as response:
                    found.append((response.status, bool(await response.read())))
            return found

    assert [(304, False), (200, True)] == asyncio.run(scenario())


def test_a_state_that_takes_long_is_made_the_less_often() -> None:
    """So that its making takes 0.5 % of a core at most, however many devices there are."""

    async def num_made() -> int:
        made: list[bytes] = []
        page = OperatorPage(lambda: made.append(b"") or b"state", reuse=1e9)
        for _ in range(50):
            assert b"state" == await page.read()
        return len(made)

    assert 1 == asyncio.run(num_made())
