"""The dashboard in a real browser, over a verifier with scripted boards that generate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_agent.generation.generation import GenerationRequest
from shared.speculation.sampling import GREEDY
from tests.support.ends.loopback import Verifier, chat, generate, running_agent, running_verifier
from tests.support.ends.scripted import board, scripted_service
from tests.support.network.chaos_proxy import ChaosProxy, local
from tests.support.programs.browser import CHROMEDRIVER, CHROMIUM, ENTER, Browser, browsing
from tests.support.programs.ports import free_port
from verifier.server.operator_pages import OperatorAccess

READY = "document.documentElement.dataset.ready"
LINK = "document.querySelector('#link').textContent"
NAMES = "[...document.querySelectorAll('#rows th')].map((one) => one.textContent).join()"
TOKEN = "metrics-of-the-house"
DEVICES = ("kitchen", "garage", "attic")
# A page that sees all of it must not wait for the end.
MANY_TOKENS = 4000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or CHROMEDRIVER is None,
        reason="chromium and chromedriver are not installed (Debian: chromium chromium-driver)",
    ),
]


@asynccontextmanager
async def watched(
    profile: Path, *, num_idle: int = 0, **options: Any
) -> AsyncIterator[tuple[Browser, Verifier, ChaosProxy]]:
    """A verifier with two boards that generate, one with speculation off, and its dashboard."""
    service = scripted_service(delay_seconds=lambda _: 0.02)
    for number in range(num_idle):
        service.device(f"idle-{number:04}")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        verifier = await enter(running_verifier(service, DEVICES, **options))
        kitchen = await enter(running_agent(verifier, board(0.1), "kitchen"))
        garage = await enter(running_agent(verifier, board(0.4), "garage"))
        plain = GenerationRequest(messages=chat("hi"), sampling=GREEDY, max_tokens=MANY_TOKENS)
        alone = GenerationRequest(
            messages=chat("hi"), sampling=GREEDY, max_tokens=MANY_TOKENS, draft_length=0
        )
        running = [
            asyncio.create_task(generate(agent, request))
            for agent, request in ((kitchen, plain), (garage, alone))
        ]
        proxy = await enter(ChaosProxy(local(verifier.port)))
        browser = await enter(browsing(profile))
        await browser.open(f"http://{proxy.address}/dashboard")
        try:
            yield browser, verifier, proxy
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def cell(name: str, key: str) -> str:
    """The expression of the text of a device's cell."""
    rows = "[...document.querySelectorAll('#rows tr')]"
    row = f"{rows}.find((one) => one.querySelector('th').textContent === '{name}')"
    return f"{row}?.querySelector('[data-key={key}] span').textContent"


async def click_head(browser: Browser, title: str) -> None:
    heads = "[...document.querySelectorAll('thead button')]"
    await browser.run(f"{heads}.find((one) => one.textContent === '{title}').click()")


def test_devices_are_shown_live_and_say_why_they_do_not_draft(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as (browser, _, _):
            await browser.until(READY)
            await browser.until(f"{cell('kitchen', 'state')} === 'drafts'")
            state = await browser.until(cell("garage", "state"))
            assert "speculation is off for this stream (draft_length 0)" == state
            await browser.until("document.querySelectorAll('#phases li').length === 6")
            await browser.until(f"parseFloat({cell('kitchen', 'goodput')}) > 0")
            figure = "document.querySelector('#tiles .value').textContent"
            before = await browser.until(f"parseFloat({figure}) > 0 && {figure}")
            await browser.until(f"{figure} !== '{before}'")
            bars = await browser.run(
                "return document.querySelector('tr:nth-child(2) .bars').getAttribute('aria-label')"
            )
            assert "accepted at position 0: " in bars
            assert [] == await browser.faults()

    asyncio.run(scenario())


def test_a_list_of_a_thousand_is_searched_sorted_and_filtered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path, num_idle=1000) as (browser, _, _):
            await browser.until(READY)
            assert 100 == await browser.run("return document.querySelectorAll('#rows tr').length")
            await browser.click("#more")
            assert 200 == await browser.run("return document.querySelectorAll('#rows tr').length")
            await browser.run("document.activeElement.blur()")
            await browser.type("body", "/")
            assert "search" == await browser.run("return document.activeElement.id")
            await browser.type("#search", "09 idle-099")
            assert "10 of 1,002" == await browser.run(
                "return document.querySelector('#count').textContent"
            )
            await click_head(browser, "Device")
            names = await browser.run(f"return {NAMES}")
            assert names.startswith("idle-0999,idle-0998,")
            assert "descending" == await browser.run(
                "return document.querySelector('#head th').ariaSort"
            )
            await browser.run(
                "const only = document.querySelector('#only'); only.value = 'streams';"
                "only.dispatchEvent(new Event('change'));"
                "const search = document.querySelector('#search'); search.value = '';"
                "search.dispatchEvent(new Event('input'))"
            )
            assert "kitchen,garage" == await browser.run(f"return {NAMES}")
            assert [] == await browser.faults()

    asyncio.run(scenario())


def test_a_verifier_that_is_away_is_said_to_be_and_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as (browser, _, proxy):
            await browser.until(f"{LINK} === 'live'")
            verifier, proxy.target = proxy.target, local(free_port())
            proxy.reset()
            await browser.until(f"{LINK}.startsWith('the verifier does not answer; shown is ')")
            proxy.target = verifier
            await browser.until(f"{LINK} === 'live'")

    asyncio.run(scenario())


def test_from_elsewhere_the_page_asks_for_the_token_until_it_is_right(tmp_path: Path) -> None:
    access = OperatorAccess(token=TOKEN, on_loopback=False)

    async def scenario() -> None:
        async with watched(tmp_path, operator_access=access) as (browser, _, _):
            await browser.until("document.querySelector('#token-dialog').open")
            await browser.type("[name=token]", "another" + ENTER)
            await browser.until("!document.querySelector('#token-wrong').hidden")
            await browser.type("[name=token]", TOKEN + ENTER)
            await browser.until(f"{LINK} === 'live' && {READY}")
            kept = (
                "return [sessionStorage, localStorage]"
                ".map((one) => one.getItem('goodspeed-metrics-token'))"
            )
            assert [TOKEN, None] == await browser.run(kept)
            await browser.click("#forget")
            await browser.until("document.querySelector('#token-dialog').open")

    asyncio.run(scenario())


def test_on_a_phone_nothing_is_wider_than_the_screen(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as (browser, _, _):
            await browser.resize(500, 820)  # the narrowest window of a headless Chromium
            await browser.until(f"{READY} && {cell('kitchen', 'state')} === 'drafts'")
            width, inner = await browser.run(
                "return [document.documentElement.scrollWidth, window.innerWidth]"
            )
            assert width <= inner
            roles = await browser.run(
                "return [...document.querySelectorAll('#devices [role]')].map((one) => one.role)"
            )
            assert {"row", "cell", "rowheader", "columnheader", "rowgroup", "img"} == set(roles)

    asyncio.run(scenario())
