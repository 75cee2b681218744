"""Thoughts, calls and their results, and what an answer waits for, in a real browser."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_agent.generation.generation import GenerationRequest, TextPiece
from edge_agent.generation.queued_generator import QueuedGenerator
from edge_agent.generation.scripted_generator import ScriptedGenerator
from edge_agent.generation.waiting_line import LineLimits
from shared.protocol.messages import PLAIN_OUTPUT, OutputFormat, ToolCall
from tests.support.ends.api_server import HELLO, serving
from tests.support.programs.browser import CHROMEDRIVER, CHROMIUM, ENTER, browsing

READY = "document.documentElement.dataset.ready"
DONE = "document.querySelector('#state').textContent === 'The answer is complete.'"
NOTES = "[...document.querySelectorAll('.note')].map((one) => one.textContent).join()"
BOARD = "document.querySelector('#board').textContent"
TOOLS = '[{"type": "function", "function": {"name": "weather"}}]'
PAUSED = "an operator paused this device: its streams wait"
CALLING = (
    TextPiece("<think>", "target", "alone"),
    TextPiece("Look it up.", "accepted"),
    TextPiece("</think>", "accepted"),
    TextPiece('<tool_call>\n{"name": "weather", "arguments": {"city": ', "target", "forced"),
    TextPiece('"Oslo"}}\n</tool_call>', "accepted"),
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or CHROMEDRIVER is None,
        reason="chromium and chromedriver are not installed (Debian: chromium chromium-driver)",
    ),
]


def test_thoughts_are_folded_calls_are_blocks_and_their_results_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        board = ScriptedGenerator(CALLING, output_format=OutputFormat("hermes", "think"))
        async with serving(board) as url, browsing(tmp_path) as browser:
            await browser.open(f"{url}/")
            await browser.until(READY)
            await browser.click("#settings")
            await browser.click(".tools-field summary")
            await browser.type("[name=tools]", TOOLS)
            await browser.click("#settings-dialog .primary")
            await browser.type("#message", "Weather?" + ENTER)
            await browser.until("document.querySelector('.results')")
            told = await browser.run(
                "const text = (q) => document.querySelector(q).textContent;"
                "return [document.querySelector('.thoughts').open, text('.thoughts .prose'),"
                " text('.call code'), text('.call .forced'), text('.call .accepted')]"
            )
            laid_out = '{\n  "city": "Oslo"\n}'
            assert [False, "Look it up.", laid_out, "{", '"Oslo"'] == told
            board.script, board.output_format = HELLO, PLAIN_OUTPUT
            await browser.type(".results textarea", "sunny")
            await browser.click(".results .primary")
            await browser.until(f"document.querySelectorAll('.answer').length === 2 && {DONE}")
            _, said, result = board.requests[-1].messages
            assert ("Look it up.", ("tool", "sunny", "weather")) == (
                said.reasoning,
                (result.role, result.content, result.name),
            )
            assert (
                ToolCall(result.tool_call_id, "weather", '{"city": "Oslo"}'),
            ) == said.tool_calls
            assert [] == await browser.faults()

    asyncio.run(scenario())


def test_what_an_answer_waits_for_and_why_it_is_refused_is_said_in_words(tmp_path: Path) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        board = ScriptedGenerator([gate, *HELLO], max_streams=1)
        queued = QueuedGenerator(board, LineLimits(max_requests=1))
        hindrance = [PAUSED]

        async def other() -> None:
            async for _ in queued.generate(GenerationRequest(text="x")):
                pass

        async with (
            serving(queued, place_of=queued.place_of, hindrance=lambda: hindrance[0]) as url,
            browsing(tmp_path) as browser,
        ):
            await browser.open(f"{url}/")
            await browser.until(f"{BOARD} === 'scripted-target – An operator{PAUSED[11:]}.'")
            first = asyncio.create_task(other())
            await browser.type("#message", "hi" + ENTER)
            await browser.until(f"{NOTES}.includes('place 1 in its line. An operator paused')")
            hindrance[0] = ""
            await browser.until(f"{NOTES} === ',The board is busy: place 1 in its line.'")
            gate.set()
            await browser.until(DONE)
            await first
            gate.clear()
            others = [asyncio.create_task(other()) for _ in range(2)]
            await browser.type("#message", "more" + ENTER)
            await browser.until(f"/Ask again in about [0-9]+ s[.]$/.test({NOTES})")
            gate.set()
            await asyncio.gather(*others)
            assert [] == await browser.faults()

    asyncio.run(scenario())
