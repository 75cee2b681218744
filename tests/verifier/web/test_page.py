"""The dashboard over a real loopback socket: who sees it, what binds it, how often it is made."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.ends.loopback import Verifier, running_verifier
from tests.support.ends.scripted import scripted_service
from verifier.server.operator_pages import DASHBOARD_SECONDS, OperatorAccess, OperatorPage
from verifier.web.assets import PAGE_PATH, STATE_PATH, read_assets

ROOT = Path(__file__).parents[3]
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


def test_the_page_binds_the_browser_and_is_small() -> None:
    async def scenario() -> None:
        async with watching() as (_, http), http.get(PAGE_PATH, headers=THROUGH_A_PROXY) as told:
            page = await told.text()
            assert 200 == told.status
            assert 10_000 < len(page.encode()) <= MAX_PAGE_BYTES
            policy = told.headers["Content-Security-Policy"]
            assert re.match(r"default-src 'none'; script-src 'sha256-[\w+/=]+'; style-src", policy)
            assert "nosniff" == told.headers["X-Content-Type-Options"]
            assert "no-cache" == told.headers["Cache-Control"]
            assert [] == re.findall(r'(?:href|src)="(?!#|data:)', page)
            assert " style=" not in page

    asyncio.run(scenario())


def test_no_module_reads_html_and_every_one_is_part_of_the_page() -> None:
    words = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser")
    page = read_assets()[PAGE_PATH].body.decode()
    files = [*(ROOT / "verifier/web/page").rglob("*.js")]
    assert 5 < len(files)
    for file in files:
        text = file.read_text()
        assert [] == [word for word in words if word in text], file
        assert f"// {file.relative_to(ROOT)}\n" in page


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
