"""The demo's fleet: one verifier and its boards, each with its settings, from start to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from edge_agent.chat.client import ChatClient
from tests.demo.figures import Scrape, read_scrape
from tests.demo.watch import DemoFailed, check_alive
from tests.support.programs.command import AGENT, VERIFIER, console_script
from tests.support.programs.program import Program
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram

TARGET_MODEL = "smollm2-135m-instruct"
CONTEXT_TOKENS = 1024

HTTP_TIMEOUT = aiohttp.ClientTimeout(10)

VERIFIER_SETTINGS = {
    "target.model": TARGET_MODEL,
    "target.dtype": "float32",  # token for token the target's own text
    "target.context_tokens": CONTEXT_TOKENS,
    "target.kv_cache_tokens": 8 * CONTEXT_TOKENS,
}
BOARD_SETTINGS = {
    "draft.threads": 1,
    "draft.batch_threads": 1,
    "draft.context_tokens": CONTEXT_TOKENS,
}

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft model and what people call it."""

    name: str
    model: str


@dataclass(frozen=True, slots=True)
class Board:
    """A running board."""

    name: str
    draft: str
    client: ChatClient
    program: ServingProgram

    @property
    def url(self) -> str:
        return self.program.url


@dataclass(frozen=True, slots=True)
class Verifier:
    """The running verifier."""

    program: ServingProgram
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Of health and metrics."""
        return self.program.url

    async def scrape(self) -> Scrape:
        """Its metrics now.

        Raises:
            ProgramFailed: it does not answer.
        """
        try:
            async with self.http.get(
                f"{self.url}/metrics", timeout=HTTP_TIMEOUT, raise_for_status=True
            ) as answer:
                return read_scrape(await answer.text(), time.monotonic())
        except (aiohttp.ClientError, TimeoutError) as error:
            await check_alive([self.program])
            raise self.program.failure(f"the verifier shows no metrics: {error}") from error


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that runs."""

    verifier: Verifier
    boards: tuple[Board, ...]

    @property
    def programs(self) -> list[Program]:
        return [self.verifier.program, *(board.program for board in self.boards)]


@asynccontextmanager
async def running_fleet(
    directory: Path, drafts: Sequence[Draft], http: aiohttp.ClientSession, tell: Tell
) -> AsyncIterator[Fleet]:
    """Start a verifier and a board for each draft; ready when the block begins, gone after it.

    Raises:
        DemoFailed: the programs are not installed.
        ProgramFailed: a program ends by itself, does not get ready, or does not end.
    """
    _check_installed()
    programs = Programs(directory)
    try:
        yield await _started(programs, drafts, http, tell)
    finally:
        await asyncio.to_thread(programs.stop)


async def _started(
    programs: Programs, drafts: Sequence[Draft], http: aiohttp.ClientSession, tell: Tell
) -> Fleet:
    names = [f"board-{letter}" for letter in "abcdefgh"[: len(drafts)]]
    token_files = [programs.token_file(name) for name in names]
    tell(f"the verifier loads {TARGET_MODEL} and measures its rounds")
    verifier = Verifier(programs.verifier(VERIFIER, VERIFIER_SETTINGS), http)
    verifier.program.start()
    await asyncio.to_thread(verifier.program.wait_until_ready)
    boards = []
    for name, draft, token_file in zip(names, drafts, token_files, strict=True):
        tell(f"{name} loads {draft.model} ({draft.name})")
        url = f"ws://127.0.0.1:{verifier.program.port}"
        settings = {**BOARD_SETTINGS, "draft.model": draft.model}
        program = programs.agent(url, token_file, AGENT, settings)
        program.start()
        boards.append(Board(name, draft.name, ChatClient(http, program.url), program))
    for board in boards:
        await asyncio.to_thread(board.program.wait_until_ready)
    return Fleet(verifier, tuple(boards))


def _check_installed() -> None:
    for name in ("goodspeed-verifier", "goodspeed-agent"):
        if not console_script(name).exists():
            raise DemoFailed(f"there is no {console_script(name)}: make install")
