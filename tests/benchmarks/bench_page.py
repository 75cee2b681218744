"""How long the chat page takes from an address to usable, in Chromium, over loopback.

`--loads` times, each in a browser that has just been started with an empty profile (cold), and then
once more in the same one (warm): until the page can be typed into (`usable`), until its first
paint, and where the time went: requests, and the bytes that they brought. In turn with it, a page
that has nothing but a box and the same headers: what the browser itself takes. `--against` another
checkout, whose page is loaded in turn with these.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import click

from edge_agent.api.access import Access
from edge_agent.api.app import build_app, serve
from edge_agent.generation.scripted_generator import ScriptedGenerator
from edge_agent.web.assets import PAGE_PATH, read_assets
from shared.daemon.http_server import listen
from shared.web.served_page import Asset, add_page
from tests.support.ends.api_server import HELLO
from tests.support.programs.browser import browsing

ROOT = Path(__file__).parents[2]

_TIMES = """
const [page] = performance.getEntriesByType("navigation");
const paint = performance.getEntriesByName("first-contentful-paint")[0];
const parts = performance.getEntriesByType("resource").filter((one) => one.startTime < %s);
return {
  usable: performance.getEntriesByName("usable")[0].startTime,
  paint: paint ? paint.startTime : null,
  page: page.responseEnd,
  parts: Math.max(page.responseEnd, ...parts.map((one) => one.responseEnd)),
  requests: 1 + parts.length,
  bytes: page.transferSize + parts.reduce((sum, one) => sum + one.transferSize, 0),
};
"""
_USABLE = 'performance.getEntriesByName("usable")[0]'


EMPTY_PATH = "/empty"
_EMPTY_SCRIPT = 'document.querySelector("textarea").focus(); performance.mark("usable");'


def _empty_page() -> Asset:
    """A box to type into, and a policy like the page's."""
    script = hashlib.sha256(_EMPTY_SCRIPT.encode()).digest()
    source = f"script-src 'sha256-{base64.b64encode(script).decode()}'"
    policy = re.sub(r"script-src '[^']+'", source, read_assets()[PAGE_PATH].policy)
    body = f'<!doctype html><textarea></textarea><script type="module">{_EMPTY_SCRIPT}</script>'
    return Asset(body.encode(), "empty", policy)


async def _board() -> None:
    """A scripted board in a process of its own; says its port, and ends with its input."""
    sockets = listen("127.0.0.1", 0)
    app = build_app(ScriptedGenerator(HELLO), Access())
    add_page(app.router, {EMPTY_PATH: _empty_page()})
    server = await serve(app, sockets)
    sys.stdout.write(f"{sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()


async def _load(url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A cold load and a warm one."""
    with tempfile.TemporaryDirectory() as profile:
        async with browsing(Path(profile)) as browser:
            loads = []
            for _ in range(2):
                await browser.open("about:blank")
                await asyncio.sleep(1.0)  # what a browser does after its start
                await browser.open(url)
                await browser.until(_USABLE)
                await asyncio.sleep(0.2)  # for the paint
                loads.append(await browser.run(_TIMES % f"{_USABLE}.startTime"))
            return loads[0], loads[1]


@asynccontextmanager
async def _board_of(checkout: Path) -> AsyncIterator[str]:
    """The address of a scripted board that runs the code of a checkout."""
    board = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__)), "--board"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    assert board.stdin is not None
    assert board.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await board.stdout.readline())}/"
    finally:
        board.stdin.close()
        await board.wait()


async def _measure(num_loads: int, checkouts: Sequence[Path]) -> None:
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(_board_of(place)) for place in checkouts]
        pages = {str(place): url for place, url in zip(checkouts, urls, strict=True)}
        pages["an empty page"] = urls[0].rstrip("/") + EMPTY_PATH
        found = [[await _load(url) for url in pages.values()] for _ in range(num_loads)]
    for name, pairs in zip(pages, zip(*found, strict=True), strict=True):
        print(name)
        _show(pairs)


def _show(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for name, loads in zip(("cold", "warm"), zip(*pairs, strict=True), strict=True):
        for what in ("usable", "paint", "page", "parts", "requests", "bytes"):
            values = sorted(load[what] for load in loads if load[what] is not None)
            if values:
                middle = statistics.median(values)
                print(f"{name} {what:<9} {middle:8.0f}   ({values[0]:.0f} to {values[-1]:.0f})")


@click.command(help=__doc__)
@click.option("--loads", default=10, show_default=True)
@click.option("--against", type=click.Path(exists=True, path_type=Path))
@click.option("--board", is_flag=True, hidden=True)
def main(loads: int, against: Path | None, board: bool) -> None:
    checkouts = [ROOT, *([] if against is None else [against])]
    asyncio.run(_board() if board else _measure(loads, checkouts))


if __name__ == "__main__":
    main()
