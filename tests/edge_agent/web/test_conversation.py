"""A conversation in a real browser: what a person does, and what the page then shows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_agent.generation.scripted_generator import ScriptedGenerator, Step
from shared.errors import RequestRefused
from tests.support.chats.marked_answer import ANSWER, rounds_of, tokens_of
from tests.support.ends.api_server import HELLO, serving
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_proxy import ChaosProxy, local
from tests.support.programs.browser import (
    CHROMEDRIVER,
    CHROMIUM,
    ENTER,
    ESCAPE,
    Browser,
    browsing,
)

KEY = "a-key-of-more-than-sixteen"
PIECES = list(rounds_of(tokens_of(ANSWER)))
READY = "document.documentElement.dataset.ready"
STATE = "document.querySelector('#state').textContent"
PROSE = "document.querySelector('.prose:not(#welcome *)')"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or CHROMEDRIVER is None,
        reason="chromium and chromedriver are not installed (Debian: chromium chromium-driver)",
    ),
]


def texts_of(selector: str) -> str:
    """The expression of the texts of all such elements, with commas between them."""
    return f"[...document.querySelectorAll('{selector}')].map((one) => one.textContent).join()"


class Scene:
    """A board with a script, and a browser that has opened its page."""

    def __init__(self, script: Sequence[Step], profile: Path, **options: Any) -> None:
        self.generator = ScriptedGenerator(script)
        self._profile = profile
        self._options = options
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Scene:
        enter = self._stack.enter_async_context
        url = await enter(serving(self.generator, **self._options))
        self.proxy = await enter(ChaosProxy(local(int(url.rpartition(":")[2]))))
        self.browser: Browser = await enter(browsing(self._profile))
        await self.browser.open(f"http://{self.proxy.address}/")
        await self.browser.until(READY)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()

    async def ask(self, question: str) -> None:
        await self.browser.type("#message", question + ENTER)

    async def until_answered(self) -> None:
        await self.browser.until(f"{STATE} === 'The answer is complete.'")

    async def text_of(self, element: str) -> str:
        return str(await self.browser.run(f"return {element}.textContent"))


async def check_answer(scene: Scene) -> None:
    """The whole answer stands there, as text, with the origin of all pieces."""
    text = await scene.text_of(PROSE)
    assert "That is all: <b>no tag</b> of mine is more than text." in text
    assert text.count("Air scatters the short waves far more") == 1
    found = await scene.browser.run(
        f"const names = (q) => [...{PROSE}.querySelectorAll(q)].length;"
        "return {tables: names('table'), rows: names('tr'), items: names('li'), tags: names('b'),"
        " strong: names('strong'), code: names('pre code'), links: names('a[href^=https]')}"
    )
    expected = {"tables": 1, "rows": 4, "items": 4, "tags": 0, "strong": 2, "code": 1, "links": 1}
    assert expected == found
    shown = await scene.browser.run(
        f"const all = (name) => [...{PROSE}.querySelectorAll('span.' + name)];"
        "const text = (name) => all(name).map((one) => one.textContent).join('');"
        "const names = ['accepted', 'rejection', 'bonus', 'alone'];"
        "return Object.fromEntries(names.map((name) => [name, text(name)]))"
    )
    for name, text in shown.items():
        told = "".join(piece.text for piece in PIECES if (piece.reason or piece.origin) == name)
        letters = [letter for letter in text if letter.isalnum()]
        # Marks of the markup and the address of the link are not shown.
        assert 0.8 < len(letters) / sum(map(str.isalnum, told)) <= 1.0, name


def test_an_answer_goes_on_after_a_reload_and_after_a_lost_link(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        script: list[Step] = [*PIECES[:40], first, *PIECES[40:90], second, *PIECES[90:]]
        async with Scene(script, tmp_path) as scene:
            await scene.ask("Why is the sky blue?")
            await scene.browser.until(f"{PROSE}?.textContent.includes('Sunlight')")
            await scene.browser.reload()
            await scene.browser.until(f"{READY} && {PROSE}?.textContent.includes('Sunlight')")
            first.set()
            await scene.browser.until(f"{PROSE}.textContent.includes('fourth power')")
            scene.proxy.reset()
            second.set()
            await scene.until_answered()
            await check_answer(scene)
            assert 1 == len(scene.generator.requests)
            assert "368" == await scene.browser.run(
                "return document.querySelector('#figures div:last-child .value').textContent"
            )
            faults = await scene.browser.faults()
            assert [] == [fault for fault in faults if "WebSocket" not in fault]

    asyncio.run(scenario())


def test_versions_are_made_switched_between_and_kept_over_a_reload(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Scene(HELLO, tmp_path) as scene:
            browser = scene.browser
            await scene.ask("hi")
            await scene.until_answered()
            await browser.click("[data-action=again]")
            await browser.until("document.querySelector('.answer .versions')?.innerText")
            await scene.until_answered()
            await browser.click("[data-action=edit]")
            await browser.type(".edit", " there")
            await browser.click(".question form .primary")
            await eventually(lambda: len(scene.generator.requests) == 3)
            await scene.until_answered()
            said, labels = texts_of(".said"), texts_of(".versions span")
            assert ("hi there", "2 of 2") == (
                await browser.run(f"return {said}"),
                await browser.run(f"return {labels}"),
            )
            await browser.click(".question [data-action=previous]")
            await browser.until(f"{said} === 'hi' && {labels} === '1 of 2,2 of 2'")
            assert "next" == await browser.run("return document.activeElement.dataset.action")
            await browser.reload()
            await browser.until(f"{READY} && {said} === 'hi' && {labels} === '1 of 2,2 of 2'")
            assert "Hello wide world" == await scene.text_of(PROSE)
            assert [["hi"], ["hi"], ["hi there"]] == [
                [turn.content for turn in request.messages] for request in scene.generator.requests
            ]
            assert [] == await browser.faults()

    asyncio.run(scenario())


def test_an_answer_is_stopped_and_a_refusal_is_told_in_its_words(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Scene([*HELLO[:2], asyncio.Event()], tmp_path) as scene:
            await scene.ask("hi")
            await scene.browser.until(f"{PROSE}?.textContent === 'Hello wide'")
            assert "true" == await scene.browser.run(
                "return document.querySelector('.answer').getAttribute('aria-busy')"
            )
            await scene.browser.type("#message", ESCAPE)
            await scene.browser.until(f"{STATE} === 'Stopped.'")
            await eventually(scene.generator.was_cancelled.is_set)
            scene.generator.script = (RequestRefused("the prompt is too long", "messages"),)
            await scene.ask("more")
            await scene.browser.until(
                "document.querySelector('.note.failure')?.textContent === 'The prompt is too long.'"
            )
            assert [] == await scene.browser.faults()

    asyncio.run(scenario())


def test_a_board_with_a_key_asks_for_it_until_it_is_right(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Scene(HELLO, tmp_path, api_token=KEY, allowed_hosts=None) as scene:
            browser = scene.browser
            await browser.until("document.querySelector('#key-dialog').open")
            await browser.type("[name=key]", "another" + ENTER)
            await browser.until("!document.querySelector('#key-wrong').hidden")
            await browser.type("[name=key]", KEY + ENTER)
            await browser.until(f"{texts_of('#board')} === 'scripted-target'")
            await scene.ask("hi")
            await scene.until_answered()
            assert "Hello wide world" == await scene.text_of(PROSE)
            assert KEY == await browser.run("return sessionStorage.getItem('goodspeed-key')")
            assert None is await browser.run("return localStorage.getItem('goodspeed-key')")

    asyncio.run(scenario())


def test_on_a_phone_nothing_is_wider_than_the_screen(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Scene(PIECES, tmp_path) as scene:
            await scene.browser.resize(500, 820)  # the narrowest window of a headless Chromium
            await scene.ask("Why is the sky blue?")
            await scene.until_answered()
            width, inner = await scene.browser.run(
                "return [document.documentElement.scrollWidth, window.innerWidth]"
            )
            assert width <= inner
            await scene.browser.click("#nav-toggle")
            assert "new" == await scene.browser.run("return document.activeElement.id")

    asyncio.run(scenario())
