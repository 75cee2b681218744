"""The demo's fleet: one verifier and its boards, each with its settings, from start to end."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from edge_agent.chat.client import ChatClient
from shared.errors import LinkError
from tests.demo.figures import Scrape, read_scrape
from tests.demo.program import (
    DemoFailed,
    Program,
    check_alive,
    check_running,
    console_script,
    free_ports,
    output_of,
    running_program,
)

TARGET_MODEL = "smollm2-135m-instruct"
CONTEXT_TOKENS = 1024
BUDGET_TOKENS = 24  # draft tokens in a round: eight for each of three equal boards

READY_SECONDS = 300.0  # a cold disk, a busy machine, and the measurement of the rounds
HTTP_TIMEOUT = aiohttp.ClientTimeout(10)

Settings = Mapping[str, Mapping[str, object]]
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
    url: str
    client: ChatClient
    program: Program


@dataclass(frozen=True, slots=True)
class Verifier:
    """The running verifier."""

    url: str  # of health and metrics
    program: Program
    http: aiohttp.ClientSession

    async def is_healthy(self) -> bool:
        try:
            async with self.http.get(f"{self.url}/healthz", timeout=HTTP_TIMEOUT) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def scrape(self) -> Scrape:
        """Its metrics now.

        Raises:
            DemoFailed: it does not answer.
        """
        try:
            async with self.http.get(
                f"{self.url}/metrics", timeout=HTTP_TIMEOUT, raise_for_status=True
            ) as answer:
                return read_scrape(await answer.text(), time.monotonic())
        except (aiohttp.ClientError, TimeoutError) as error:
            await check_alive([self.program])
            raise DemoFailed(f"the verifier shows no metrics: {error}", self.program.log) from error


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
        DemoFailed: a program ends by itself or does not get ready.
    """
    verifier_port, *board_ports = free_ports(1 + len(drafts))
    names = [f"board-{letter}" for letter in "abcdefgh"[: len(drafts)]]
    tokens_file = await _tokens(directory, names)
    async with AsyncExitStack() as stack:
        tell(f"the verifier loads {TARGET_MODEL} and measures its rounds")
        settings = _verifier_settings(verifier_port, tokens_file)
        program = await stack.enter_async_context(
            running_program(
                "verifier",
                _command("goodspeed-verifier", directory / "verifier.toml", settings),
                directory / "verifier.log",
            )
        )
        verifier = Verifier(f"http://127.0.0.1:{verifier_port}", program, http)
        await _until(verifier.is_healthy, program)
        boards = []
        for name, draft, port in zip(names, drafts, board_ports, strict=True):
            tell(f"{name} loads {draft.model} ({draft.name})")
            settings = _board_settings(directory / f"{name}.token", draft, port, verifier_port)
            program = await stack.enter_async_context(
                running_program(
                    name,
                    _command("goodspeed-agent", directory / f"{name}.toml", settings),
                    directory / f"{name}.log",
                )
            )
            url = f"http://127.0.0.1:{port}"
            boards.append(Board(name, draft.name, url, ChatClient(http, url), program))
        for board in boards:
            await _until(_has_verifier(board.client), board.program)
        try:
            yield Fleet(verifier, tuple(boards))
        finally:
            for board in boards:  # all at once; the stack waits for one after the other
                board.program.ask_to_stop()


async def _tokens(directory: Path, names: Sequence[str]) -> Path:
    """A token for each board, in a file for the board; the verifier's file."""
    tokens_file = directory / "tokens"
    for name in names:
        token = await output_of(
            [
                *(console_script("goodspeed-verifier"), "token", "add", name),
                *("--tokens-file", str(tokens_file)),
            ]
        )
        path = directory / f"{name}.token"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
    return tokens_file


def _verifier_settings(port: int, tokens_file: Path) -> Settings:
    return {
        "server": {"port": port, "tokens_file": str(tokens_file)},
        "target": {
            "model": TARGET_MODEL,
            "device": "cpu",
            "dtype": "float32",  # token for token the target's own text
            "context_tokens": CONTEXT_TOKENS,
            "kv_cache_tokens": 8 * CONTEXT_TOKENS,
        },
        "rounds": {
            "policy": "goodspeed",
            "budget_tokens": BUDGET_TOKENS,
            "prefix_sharing": "off",  # the passes ask the same, and none may profit from another
        },
    }


def _board_settings(token_file: Path, draft: Draft, port: int, verifier_port: int) -> Settings:
    return {
        "verifier": {
            "url": f"ws://127.0.0.1:{verifier_port}",
            "token_file": str(token_file),
        },
        "draft": {
            "model": draft.model,
            "threads": 1,
            "batch_threads": 1,
            "context_tokens": CONTEXT_TOKENS,
        },
        "api": {"port": port},
    }


def _command(script: str, config: Path, settings: Settings) -> list[str]:
    config.write_text(_toml(settings), encoding="utf-8")
    return [console_script(script), "run", "--config", str(config)]


def _toml(settings: Settings) -> str:
    # Strings, integers and booleans look the same in JSON and in TOML.
    return "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        for section, keys in settings.items()
    )


def _has_verifier(client: ChatClient) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        try:
            return await client.model() is not None
        except LinkError:
            return False

    return ask


async def _until(is_ready: Callable[[], Awaitable[bool]], program: Program) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not await is_ready():
        check_running([program])
        if time.monotonic() > deadline:
            sentence = f"{program.name} was not ready within {READY_SECONDS:.0f} s"
            raise DemoFailed(sentence, program.log)
        await asyncio.sleep(0.1)
