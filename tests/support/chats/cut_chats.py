"""Chats that go on while their links are disturbed, again and again; what all sides saw is checked.

One verifier, a few agents behind a chaos proxy each, and clients that stay connected to their
agent's API: all in this process, over real sockets.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from itertools import cycle
from unittest.mock import patch

import aiohttp

import edge_agent.link.backoff
import edge_agent.link.link
import verifier.server.server
from edge_agent.draft_model.drafter import Drafter
from edge_agent.generation.agent import Agent
from tests.support.chats.chats import Chat
from tests.support.chats.disturbances import DISTURBANCES
from tests.support.chats.history import Undisturbed, violations
from tests.support.chats.recorders import Client, RecordingGenerator, VerdictRecorder, history_of
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import Verifier, running_agent, running_verifier
from tests.support.ends.waiting import eventually
from tests.support.messages.repeated_messages import repeated_messages
from tests.support.network.chaos_lane import Weather
from tests.support.network.chaos_proxy import ChaosProxy, local
from verifier.engine.service import VerifierService

RESTART = "restarted verifier"
FIRST_DELAY_SECONDS = 0.02
MAX_DELAY_SECONDS = 0.1
RECOVERY_SECONDS = 30.0  # then a chat is taken for stuck
_USUAL_WEATHER = Weather(jitter_seconds=0.001)


@dataclass(frozen=True)
class Setting:
    """Who takes part."""

    make_service: Callable[[], VerifierService]
    drafters: Sequence[Drafter]  # one for each agent
    chats: Iterator[Chat]  # without an end
    undisturbed: Callable[[Chat], Undisturbed]
    num_chats_at_once: int = 3  # of each agent
    heartbeat_seconds: float = 0.4  # of both ends; a dead link is noticed after 1.5 of them


@dataclass
class Report:
    """What came of it."""

    recoveries: dict[str, list[float]] = field(default_factory=dict)  # seconds, by kind
    num_chats: int = 0
    num_tokens: int = 0
    num_repeated: int = 0  # messages
    num_turned_away: int = 0  # chats that began while there was no link, and once more after that
    violations: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def repeated(self) -> None:
        """A message came twice."""
        self.num_repeated += 1

    @property
    def num_disturbances(self) -> int:
        return sum(map(len, self.recoveries.values()))

    @property
    def num_cuts(self) -> int:
        """Disturbances that no connection survived."""
        return sum(len(self.recoveries[kind]) for kind in self.recoveries if _cuts(kind))


async def disturbed_chats(
    setting: Setting,
    num_cuts: int,
    seed: int,
    tell: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Chat while all links together are cut so often, and disturbed in other ways between.

    The same is done for a seed, but not at the same token: that is up to the machine.
    """
    report = Report()
    plan = _plan(num_cuts, seed)
    with _short_pauses(setting), repeated_messages(random.Random(seed), report.repeated):
        async with _world(setting, seed) as world, asyncio.TaskGroup() as chatting:
            for line in world.lines:
                for _ in range(setting.num_chats_at_once):
                    chatting.create_task(_keep_chatting(world, line, report), name="chats")
            async with asyncio.TaskGroup() as disturbing:
                for i, line in enumerate(world.lines):
                    own = plan[i :: len(world.lines)]
                    disturbing.create_task(_disturb(world, line, own, report, tell), name="disturb")
            world.is_over = True
    return report


def _plan(num_cuts: int, seed: int) -> list[str]:
    plan: list[str] = []
    kinds = cycle([RESTART, *DISTURBANCES])
    while num_cuts:
        plan.append(next(kinds))
        num_cuts -= _cuts(plan[-1])
    random.Random(seed).shuffle(plan)
    return plan


@dataclass
class _Line:
    """One agent, its link and its clients."""

    device: str
    proxy: ChaosProxy
    agent: Agent
    generator: RecordingGenerator
    url: str  # of its API
    chance: random.Random
    asking: dict[str, Client] = field(default_factory=dict)  # by prompt


@dataclass
class _World:
    setting: Setting
    verifier: Verifier
    running: AsyncExitStack  # the verifier's
    http: aiohttp.ClientSession
    recorder: VerdictRecorder
    lines: list[_Line] = field(default_factory=list)
    is_over: bool = False
    restarting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def next_chat(self) -> Chat:
        """The next one whose prompt, by which it is known, is not asked just now."""
        asked = {prompt for line in self.lines for prompt in line.asking}
        return next(chat for chat in self.setting.chats if chat.prompt not in asked)

    async def restart(self) -> None:
        """Another verifier in its place, which knows nothing of the streams."""
        async with self.restarting:
            port = self.verifier.port
            await self.running.aclose()
            starting = _running_verifier(self.setting, len(self.lines), port)
            self.verifier = await self.running.enter_async_context(starting)


async def _keep_chatting(world: _World, line: _Line, report: Report) -> None:
    while not world.is_over:
        chat = world.next_chat()
        client = await _answered(world, line, chat, report)
        if client.error is not None:
            report.errors.append(f"chat {chat.prompt!r}: {client.error}")
        history = history_of(client, line.generator, world.recorder)
        report.violations += violations(history, world.setting.undisturbed(chat))
        report.num_chats += 1
        report.num_tokens += len(history.agent_ids)


async def _answered(world: _World, line: _Line, chat: Chat, report: Report) -> Client:
    """The client of a chat that has begun, at its end."""
    while True:
        client = line.asking[chat.prompt] = Client(chat.prompt)
        await client.ask(world.http, line.url, chat.body)
        if not client.is_turned_away:
            del line.asking[chat.prompt]
            return client
        report.num_turned_away += 1
        await eventually(lambda: line.agent.target_model is not None, RECOVERY_SECONDS)


async def _disturb(
    world: _World, line: _Line, plan: Sequence[str], report: Report, tell: Callable[[Report], None]
) -> None:
    for kind in plan:
        started_at = time.monotonic()
        try:
            await _some_tokens(line, line.chance.randrange(16))
            started_at = time.monotonic()
            await _happen(world, line, kind)
        except TimeoutError:
            report.errors.append(
                f"{line.device}: stuck for {RECOVERY_SECONDS:g} s before or after {kind!r}, with "
                f"{line.proxy.num_open} connections open of {line.proxy.num_connections}"
            )
        report.recoveries.setdefault(kind, []).append(time.monotonic() - started_at)
        tell(report)


async def _happen(world: _World, line: _Line, kind: str) -> None:
    """Return when every client that was reading has got more."""
    clients = list(line.asking.values())
    before = line.proxy.num_connections
    if kind == RESTART:
        await world.restart()
    else:
        await DISTURBANCES[kind].happen(line.proxy, line.chance)
        before = line.proxy.num_connections  # those made while it happened do not count
    if _cuts(kind):
        await eventually(lambda: _is_linked_anew(line, before), RECOVERY_SECONDS)
    since = time.monotonic()
    await eventually(
        lambda: all(c.latest_at > since or c.finish_reason or c.error for c in clients),
        RECOVERY_SECONDS,
    )


def _cuts(kind: str) -> bool:
    return kind == RESTART or DISTURBANCES[kind].cuts


def _is_linked_anew(line: _Line, num_connections_before: int) -> bool:
    is_new = line.proxy.num_connections > num_connections_before
    return is_new and line.agent.target_model is not None


async def _some_tokens(line: _Line, num_pieces: int) -> None:
    until = line.generator.num_pieces + num_pieces
    await eventually(lambda: line.generator.num_pieces >= until, RECOVERY_SECONDS)


@asynccontextmanager
async def _world(setting: Setting, seed: int) -> AsyncIterator[_World]:
    recorder = VerdictRecorder()
    async with AsyncExitStack() as running, AsyncExitStack() as stack:
        stack.enter_context(recorder.listening())
        num_agents = len(setting.drafters)
        verifier_ = await running.enter_async_context(_running_verifier(setting, num_agents))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        world = _World(setting, verifier_, running, http, recorder)
        for i, drafter in enumerate(setting.drafters):
            proxy = ChaosProxy(local(verifier_.port), _USUAL_WEATHER, seed=seed + i)
            await stack.enter_async_context(proxy)
            device = _device(i)
            starting = running_agent(verifier_, drafter, device, url=proxy.url)
            agent = await stack.enter_async_context(starting)
            generator = RecordingGenerator(agent)
            url = await stack.enter_async_context(serving(generator))
            chance = random.Random(f"{seed}/{i}")
            world.lines.append(_Line(device, proxy, agent, generator, url, chance))
        yield world


def _running_verifier(
    setting: Setting, num_agents: int, port: int = 0
) -> AbstractAsyncContextManager[Verifier]:
    return running_verifier(
        setting.make_service(),
        [_device(i) for i in range(num_agents)],
        port,
        max_connections=1000,
        heartbeat_seconds=setting.heartbeat_seconds,
    )


def _device(i: int) -> str:
    return f"board-{i}"


@contextmanager
def _short_pauses(setting: Setting) -> Iterator[None]:
    """What takes seconds with good reason, in a fraction of one."""
    with (
        patch.object(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", FIRST_DELAY_SECONDS),
        patch.object(edge_agent.link.backoff, "MAX_DELAY_SECONDS", MAX_DELAY_SECONDS),
        patch.object(edge_agent.link.link, "HEARTBEAT_SECONDS", setting.heartbeat_seconds),
        patch.object(verifier.server.server, "RETRY_AFTER_SECONDS", FIRST_DELAY_SECONDS),
    ):
        yield
