"""The demo's passes: boards chat through their websockets, at once, each with its own prompts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from edge_agent.generation.chat_messages import ChatFinished, Text
from edge_agent.generation.generation import Timings
from shared.errors import GoodspeedError, RemoteProtocolError
from tests.demo.figures import (
    BoardFigures,
    PassFigures,
    Scrape,
    board_figures,
    pass_figures,
)
from tests.demo.fleet import Board, Verifier
from tests.demo.watch import check_alive

# From Spec-Bench (its parts from MT-Bench and GSM8K, under their question ids) and HumanEval, whose
# functions follow a line of ours that asks to complete them. Boards get them like cards: the first
# nine serve three boards that chat together, the others one board alone.
PROMPTS_FILE = Path(__file__).with_name("prompts.jsonl")
MAX_TOKENS = 80
ANSWER_SECONDS = 180.0
POLL_SECONDS = 0.5


class Prompt(msgspec.Struct, frozen=True):
    """One line of the prompts' file; `source` says which benchmark it comes from."""

    id: str
    source: str
    domain: str
    content: str


@dataclass(frozen=True, slots=True)
class Pass:
    """How all boards chat for a while: fields of every request."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer."""

    text: str
    timings: Timings


@dataclass(frozen=True, slots=True)
class BoardResult:
    """What came out of one pass on one board."""

    texts: tuple[str, ...]
    figures: BoardFigures


@dataclass(frozen=True, slots=True)
class PassResult:
    """What came out of one pass of all boards."""

    boards: Mapping[str, BoardResult]
    total: PassFigures

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(text for result in self.boards.values() for text in result.texts)


class Audience(Protocol):
    """Whoever looks on: a terminal, or a pipe."""

    def asks(self, board: str, prompt: Prompt) -> None: ...

    def hears(self, board: str, piece: Text) -> None: ...

    def has_answer(self, board: str, prompt: Prompt, timings: Timings) -> None: ...

    def sees(self, scrape: Scrape) -> None: ...


def read_prompts() -> list[Prompt]:
    """The demo's prompts, in the order of their file."""
    lines = PROMPTS_FILE.read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Prompt) for line in lines]


async def chat_together(
    verifier: Verifier,
    chats: Mapping[Board, Sequence[Prompt]],
    pass_: Pass,
    audience: Audience,
) -> PassResult:
    """Let every board ask its prompts one after the other, all boards at once.

    The figures of all together end with the first board's last answer: from then on the others
    have more of the verifier.

    Raises:
        ProgramFailed: a board or the verifier fails.
    """
    before = await verifier.scrape()
    tasks = {
        board.name: asyncio.create_task(
            _ask_all(board, verifier, prompts, pass_, audience), name=board.name
        )
        for board, prompts in chats.items()
    }
    try:
        async with _watched(verifier, audience):
            await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            while_all = await verifier.scrape()
            # The first failure ends the wait.
            answers = dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
        after = await verifier.scrape()
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    boards = {name: _result(given, name, before, after) for name, given in answers.items()}
    return PassResult(boards, pass_figures(list(tasks), before, while_all))


async def chat_alone(
    verifier: Verifier,
    board: Board,
    prompts: Sequence[Prompt],
    passes: Sequence[Pass],
    audience: Audience,
) -> dict[str, BoardResult]:
    """Let one board ask each prompt in every pass before the next one, so that noise hits all.

    The result of each pass, by its name.

    Raises:
        ProgramFailed: the board or the verifier fails.
    """
    before = await verifier.scrape()
    answers: dict[str, list[Answer]] = {pass_.name: [] for pass_ in passes}
    async with _watched(verifier, audience):
        for prompt in prompts:
            for pass_ in passes:
                answers[pass_.name] += await _ask_all(board, verifier, [prompt], pass_, audience)
    after = await verifier.scrape()
    return {name: _result(given, board.name, before, after) for name, given in answers.items()}


def _result(answers: Sequence[Answer], board: str, before: Scrape, after: Scrape) -> BoardResult:
    figures = board_figures([answer.timings for answer in answers], board, before, after)
    return BoardResult(tuple(answer.text for answer in answers), figures)


@asynccontextmanager
async def _watched(verifier: Verifier, audience: Audience) -> AsyncIterator[None]:
    """Show the verifier's metrics while the block runs."""

    async def poll() -> None:
        while True:
            audience.sees(await verifier.scrape())
            await asyncio.sleep(POLL_SECONDS)

    polling = asyncio.create_task(poll(), name="poll")
    try:
        yield
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)


async def _ask_all(
    board: Board,
    verifier: Verifier,
    prompts: Sequence[Prompt],
    pass_: Pass,
    audience: Audience,
) -> list[Answer]:
    answers = []
    for number, prompt in enumerate(prompts):
        audience.asks(board.name, prompt)
        request = {
            "messages": [{"role": "user", "content": prompt.content}],
            "max_tokens": MAX_TOKENS,
            "seed": number,  # the same in every pass
            **pass_.fields,
        }
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await _ask(board, request, audience)
        except (GoodspeedError, TimeoutError) as error:
            await check_alive([verifier.program, board.program])
            sentence = str(error) or f"no answer within {ANSWER_SECONDS:.0f} s"
            raise board.program.failure(f"{board.name}: {sentence}") from error
        audience.has_answer(board.name, prompt, answer.timings)
        answers.append(answer)
    return answers


async def _ask(board: Board, request: Mapping[str, Any], audience: Audience) -> Answer:
    texts: list[str] = []
    async with aclosing(board.client.answer(request, asyncio.Event())) as said:
        async for message in said:
            if isinstance(message, ChatFinished):
                if message.timings is None:
                    raise RemoteProtocolError(
                        f"an answer ended as {message.reason}, with no figures"
                    )
                return Answer("".join(texts), message.timings)
            audience.hears(board.name, message)
            texts.append(message.text)
    raise RemoteProtocolError("an answer had no end")
