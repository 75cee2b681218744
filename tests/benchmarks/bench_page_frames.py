"""How soon the chat page paints a token, and how a long answer scrolls, in Chromium over loopback.

A scripted board writes `--tokens` tokens of marked text at `--per-second`, in rounds as they come
from a verifier. Told are: from a message at the socket to the end of the frame that shows its text;
the page's frames meanwhile; and those of a scroll through the whole answer when it stands, a window
a second. A frame is due every 16.7 ms; Chromium paints in software here.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from pathlib import Path
from typing import Any

import click

from edge_agent.generation.scripted_generator import ScriptedGenerator
from tests.support.chats.marked_answer import ANSWER, rounds_of, tokens_of
from tests.support.ends.api_server import serving
from tests.support.programs.browser import ENTER, Browser, browsing

FRAME_SECONDS = 1 / 60
_WATCH = """
window.found = { latencies: [], frames: [] };
const waiting = [];
// Line feeds and marks of markdown may show nothing before what follows them.
const hasLetter = /[\\p{L}\\p{N}]/u;
const painted = new MessageChannel();
painted.port1.onmessage = () => {
  for (const at of waiting.splice(0)) found.latencies.push(performance.now() - at);
};
const Socket = window.WebSocket;
window.WebSocket = class extends Socket {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", (event) => {
      if (!event.data.startsWith('{"type":"text"')) return;
      if (hasLetter.test(JSON.parse(event.data).text)) waiting.push(performance.now());
    });
  }
};
let before = null;
(function frame(now) {
  if (before !== null) found.frames.push(now - before);
  before = now;
  requestAnimationFrame(frame);
})(null);
addEventListener("DOMContentLoaded", () => {
  const watched = { childList: true, characterData: true, subtree: true };
  const tell = () => painted.port2.postMessage(0);
  new MutationObserver(tell).observe(document.getElementById("transcript"), watched);
});
"""
_SCROLL = """
const scroller = document.getElementById("scroller");
window.scrolled = null;
scroller.scrollTop = 0;
const frames = [];
let before = null;
const step = scroller.clientHeight / 60;
function frame(now) {
  if (before !== null) frames.push(now - before);
  before = now;
  scroller.scrollTop += step;
  const rest = scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop;
  if (rest > 1) requestAnimationFrame(frame);
  else window.scrolled = frames;
}
requestAnimationFrame(frame);
"""
_DONE = "document.querySelector('#state').textContent === 'The answer is complete.'"


async def _measure(num_tokens: int, tokens_per_second: float) -> None:
    tokens = tokens_of(ANSWER)
    repeated = math.ceil(num_tokens / len(tokens))
    pieces = list(rounds_of(tokens_of(f"{ANSWER}\n\n" * repeated)[:num_tokens]))
    generator = ScriptedGenerator(pieces, seconds_per_piece=1 / tokens_per_second)
    with tempfile.TemporaryDirectory() as profile:
        async with serving(generator) as url, browsing(Path(profile)) as browser:
            await browser.run_first(_WATCH)
            await browser.open(f"{url}/")
            await browser.until("document.documentElement.dataset.ready")
            await browser.run("found.frames.length = 0")
            await browser.type("#message", "Why is the sky blue?" + ENTER)
            await _until(browser, _DONE, 20 + 3 * num_tokens / tokens_per_second)
            found = await browser.run("return found")
            await browser.run(_SCROLL)
            await _until(browser, "window.scrolled", 600)
            scrolled = await browser.run("return window.scrolled")
    print(f"{len(pieces)} pieces at {tokens_per_second:g} a second")
    _show("from a message to its paint", found["latencies"])
    _show("frames meanwhile", found["frames"])
    _show("frames of a scroll", scrolled)


async def _until(browser: Browser, condition: str, seconds: float) -> None:
    """Looked at once a second: looking takes the page's time."""
    for _ in range(math.ceil(seconds)):
        if await browser.run(f"return {condition}"):
            return
        await asyncio.sleep(1.0)
    raise TimeoutError(f"{condition} does not hold after {seconds:.0f} s")


def _show(name: str, milliseconds: list[Any]) -> None:
    values = sorted(float(value) for value in milliseconds)
    limit = 1.5e3 * FRAME_SECONDS  # later than this a frame was left out
    late = sum(value > limit for value in values) / len(values)
    middle, most = values[len(values) // 2], values[int(0.99 * len(values))]
    print(
        f"{name:<28} {middle:6.1f} ms (median), {most:6.1f} (99 %), {values[-1]:6.1f} (most);",
        end="",
    )
    print(f" {100 * late:.1f} % of {len(values)} took more than a frame and a half")


@click.command(help=__doc__)
@click.option("--tokens", default=10_000, show_default=True)
@click.option("--per-second", default=100.0, show_default=True)
def main(tokens: int, per_second: float) -> None:
    asyncio.run(_measure(tokens, per_second))


if __name__ == "__main__":
    main()
