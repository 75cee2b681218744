"""A headless Chromium that a test drives, over WebDriver (W3C) through Debian's chromedriver."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")
SECONDS = 60.0  # for what a page should show; the machine may be busy
_POLL_SECONDS = 0.05
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name for a reference
ENTER, ESCAPE = "\ue007", "\ue00c"
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One window; `browsing` opens it."""

    def __init__(self, http: aiohttp.ClientSession, session: str) -> None:
        self._http = http
        self._session = session

    async def open(self, url: str) -> None:
        await self._post("url", url=url)

    async def reload(self) -> None:
        await self._post("refresh")

    async def run(self, script: str) -> Any:
        """What `return …` in the page gives."""
        return await self._post("execute/sync", script=script, args=[])

    async def run_first(self, script: str) -> None:
        """Run it in every page from now on, before the page's own."""
        command = "Page.addScriptToEvaluateOnNewDocument"
        await self._post("goog/cdp/execute", cmd=command, params={"source": script})

    async def until(self, condition: str) -> Any:
        """The value of the expression as soon as it is true.

        Raises:
            TimeoutError: it does not become true; with what the page shows.
        """
        for _ in range(int(SECONDS / _POLL_SECONDS)):
            value = await self.run(f"return {condition}")
            if value:
                return value
            await asyncio.sleep(_POLL_SECONDS)
        shown = await self.run("return document.body.innerText")
        raise TimeoutError(f"{condition} does not hold in:\n{shown}")

    async def click(self, selector: str) -> None:
        await self._post(f"element/{await self._find(selector)}/click")

    async def type(self, selector: str, text: str) -> None:
        await self._post(f"element/{await self._find(selector)}/value", text=text)

    async def faults(self) -> list[str]:
        """What the page has complained about in the console since the last call."""
        lines = await self._post("se/log", type="browser")
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    async def resize(self, width: int, height: int) -> None:
        await self._post("window/rect", width=width, height=height)

    async def _find(self, selector: str) -> str:
        found = await self._post("element", using="css selector", value=selector)
        return str(found[_ELEMENT])

    async def _post(self, command: str, **body: Any) -> Any:
        return await _post(self._http, f"/session/{self._session}/{command}", body)


@asynccontextmanager
async def browsing(profile: Path) -> AsyncIterator[Browser]:
    """A browser with a profile of its own, which ends with the block."""
    assert CHROMIUM is not None
    assert CHROMEDRIVER is not None
    options = {
        "binary": CHROMIUM,
        "args": [*_ARGUMENTS, f"--user-data-dir={profile}", "--window-size=1200,820"],
    }
    capabilities = {
        "browserName": "chrome",
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "ALL"},
    }
    async with _driver() as http:
        asked = {"capabilities": {"alwaysMatch": capabilities}}
        session = (await _post(http, "/session", asked))["sessionId"]
        try:
            yield Browser(http, session)
        finally:
            async with http.delete(f"/session/{session}") as response:
                await response.read()


@asynccontextmanager
async def _driver() -> AsyncIterator[aiohttp.ClientSession]:
    process = await asyncio.create_subprocess_exec(
        str(CHROMEDRIVER), "--port=0", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        line = b""
        async with asyncio.timeout(SECONDS):
            while b"started successfully on port" not in line:
                line = await process.stdout.readline()
        port = int(line.strip().rstrip(b".").split()[-1])
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=timeout) as http:
            yield http
    finally:
        process.terminate()
        await process.wait()


async def _post(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> Any:
    async with http.post(path, json=body) as response:
        value = (await response.json())["value"]
    assert 200 == response.status, f"{path}: {value['message']}"
    return value
