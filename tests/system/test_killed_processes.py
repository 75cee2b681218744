"""Processes are killed and stopped in mid-round: nobody who stays loses a token, nothing leaks."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp
import pytest

from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.chats.chats import Chat
from tests.support.chats.recorders import Client
from tests.support.ends.scripted import target_text
from tests.support.ends.waiting import eventually
from tests.support.programs.command import LAUNCHERS
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram

NUM_TOKENS = 400  # at 15 ms for some three of them: two seconds
ROUND_MS = 15
HEARTBEAT_SECONDS = 1.0
# A stopped verifier wakes up after longer than a board may be silent: a ping, and half of that for
# its answer. While it is stopped it can be asked for nothing, so that this time has to pass.
LOST_SECONDS = 2.5
GRACE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
HELD = (
    "goodspeed_num_requests_running",
    "goodspeed_num_requests_waiting",
    "goodspeed_kv_cache_usage_ratio",
    "goodspeed_kept_streams{",
)
KEPT_FOR_THE_FIRST = 'goodspeed_kept_streams{device="board-0",state="parked"}'
SAMPLINGS = (GREEDY, SamplingParameters(0.8))


@dataclass
class Fleet:
    """A verifier and two boards with their clients, all in processes of their own but for those."""

    verifier: ServingProgram
    agents: tuple[ServingProgram, ServingProgram]
    http: aiohttp.ClientSession
    prompt_numbers: Iterator[int] = field(default_factory=count)

    def ask(self, agent: ServingProgram, num_tokens: int = NUM_TOKENS) -> Asking:
        number = next(self.prompt_numbers)
        sampling = SAMPLINGS[number % len(SAMPLINGS)]
        chat = Chat(f"hello {number}", sampling, seed=50 + number, max_tokens=num_tokens)
        client = Client(chat.prompt)
        asking = client.ask(self.http, agent.url, chat.body)
        return Asking(chat, client, asyncio.create_task(asking))

    async def becomes_empty(self) -> None:
        """Return when no stream is open or waits or is kept, and no block is taken."""

        def is_empty() -> bool:
            metrics = self.verifier.metrics()
            names = [name for name in metrics if name.startswith(HELD)]
            assert len(names) > len(HELD)
            return not any(metrics[name] for name in names)

        await self._verifier_does(is_empty, "was not empty")

    async def keeps(self, num_streams: int) -> None:
        """Return when the verifier keeps so many streams for the first board to come back."""
        await self._verifier_does(
            lambda: num_streams == self.verifier.metrics()[KEPT_FOR_THE_FIRST],
            f"did not keep {num_streams} streams",
        )

    async def _verifier_does(self, condition: Callable[[], bool], failing: str) -> None:
        await asyncio.to_thread(self.verifier.wait_for, condition, failing, PATIENCE_SECONDS)


@dataclass
class Asking:
    """One answer on its way."""

    chat: Chat
    client: Client
    task: asyncio.Task[None]

    @property
    def num_pieces(self) -> int:
        return len(self.client.pieces)

    async def has(self, num_pieces: int) -> None:
        """Return when so many pieces have come."""
        await eventually(
            lambda: self.num_pieces >= num_pieces or self.task.done(), PATIENCE_SECONDS
        )
        assert not self.task.done(), (self.client.error, self.num_pieces)

    async def is_undisturbed(self) -> bool:
        """Whether, at its end, the answer is the one that the target writes alone."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.task
        assert self.client.error is None, self.client.error
        return target_text(self.chat.request) == "".join(self.client.pieces)


async def one_goes_on(answers: Sequence[Asking]) -> None:
    """Return when there is news; one board may be back long before the other."""
    until = max(answer.num_pieces for answer in answers) + 20
    await eventually(lambda: any(a.num_pieces >= until for a in answers), PATIENCE_SECONDS)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as made:
        yield made


@asynccontextmanager
async def fleet(programs: Programs) -> AsyncIterator[Fleet]:
    token_files = [programs.token_file(f"board-{i}") for i in range(2)]
    verifier = programs.verifier(
        (*LAUNCHERS, "verifier", "--scripted", f"--round-ms={ROUND_MS}"),
        {
            "server.heartbeat_seconds": HEARTBEAT_SECONDS,
            "limits.grace_seconds": GRACE_SECONDS,
        },
    )
    agents = [
        programs.agent(
            f"ws://127.0.0.1:{verifier.port}",
            token_file,
            (*LAUNCHERS, "agent", "--scripted", "--token-ms=1"),
        )
        for token_file in token_files
    ]
    for program in (verifier, *agents):
        program.start()
    for program in (verifier, *agents):
        await asyncio.to_thread(program.wait_until_ready)
    async with aiohttp.ClientSession() as http:
        yield Fleet(verifier, (agents[0], agents[1]), http)


@contextmanager
def stopped(program: ServingProgram) -> Iterator[None]:
    program.send(signal.SIGSTOP)
    try:
        yield
    finally:
        program.send(signal.SIGCONT)


def run(programs: Programs, scene: Callable[[Fleet], Awaitable[None]]) -> None:
    async def play() -> None:
        async with fleet(programs) as parts:
            await scene(parts)

    asyncio.run(play())


def test_a_killed_verifier_that_is_started_again_goes_on_with_every_text(
    programs: Programs,
) -> None:
    async def scene(parts: Fleet) -> None:
        answers = [parts.ask(agent) for agent in parts.agents for _ in SAMPLINGS]
        for answer in answers:
            await answer.has(20)
        for _ in range(2):
            parts.verifier.kill()
            parts.verifier.start()
            await one_goes_on(answers)
        assert [True] * len(answers) == [await answer.is_undisturbed() for answer in answers]

    run(programs, scene)


def test_a_stopped_verifier_goes_on_where_it_was(programs: Programs) -> None:
    async def scene(parts: Fleet) -> None:
        answers = [parts.ask(agent) for agent in parts.agents for _ in SAMPLINGS]
        for answer in answers:
            await answer.has(20)
        with stopped(parts.verifier):
            await asyncio.sleep(LOST_SECONDS)
        assert [True] * len(answers) == [await answer.is_undisturbed() for answer in answers]

    run(programs, scene)


async def unnoticed(_parts: Fleet) -> None:
    """The verifier has not asked yet whether the board is there."""


async def taken_for_lost(parts: Fleet) -> None:
    await parts.keeps(len(SAMPLINGS))


async def given_up(parts: Fleet) -> None:
    await taken_for_lost(parts)
    await parts.keeps(0)


@pytest.mark.parametrize("happens", [unnoticed, taken_for_lost, given_up])
def test_a_stopped_agent_goes_on_where_it_was_and_delays_nobody(
    programs: Programs, happens: Callable[[Fleet], Awaitable[None]]
) -> None:
    async def scene(parts: Fleet) -> None:
        stops, goes_on = ([parts.ask(agent) for _ in SAMPLINGS] for agent in parts.agents)
        for answer in (*stops, *goes_on):
            await answer.has(20)
        with stopped(parts.agents[0]):
            for answer in goes_on:
                await answer.has(answer.num_pieces + 20)
            await happens(parts)
        for answer in (*stops, *goes_on):
            assert await answer.is_undisturbed()

    run(programs, scene)


def test_a_killed_agent_leaves_nothing_behind_and_comes_back(programs: Programs) -> None:
    async def scene(parts: Fleet) -> None:
        dies, lives = parts.agents
        killed = [parts.ask(dies) for _ in SAMPLINGS]
        others = [parts.ask(lives) for _ in SAMPLINGS]
        for answer in (*killed, *others):
            await answer.has(20)
        dies.kill()
        for answer in killed:
            await answer.task
            assert answer.client.error is not None
        for answer in others:
            assert await answer.is_undisturbed()
        await parts.becomes_empty()
        dies.start()
        await asyncio.to_thread(dies.wait_until_ready)
        assert await parts.ask(dies, num_tokens=50).is_undisturbed()
        await parts.becomes_empty()

    run(programs, scene)
