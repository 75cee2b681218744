"""An hour with many boards: certificates and tokens change, all is reloaded, restarted and killed.

Real processes over TLS: a verifier with a scripted target, two fleets of scripted boards, two
agents with clients (one drafts with a scripted model, one with n-grams alone). Every text is
compared with what the target alone writes. Ctrl-C ends it with the whole report of what was done.

    nice -n 10 python -m tests.benchmarks.soak --minutes 60
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp
import click

from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.benchmarks.soak_fleet import OF_A_STREAM
from tests.benchmarks.soak_memory import MemoryWatch
from tests.benchmarks.soak_site import Load, Site, running_site
from tests.support.chats.chats import Chat
from tests.support.chats.recorders import Client
from tests.support.ends.scripted import target_text
from tests.support.programs.program import ProgramFailed
from tests.support.programs.serving_program import ServingProgram

MOST_MEGABYTES_A_MINUTE = 0.1
SAMPLE_SECONDS = 15.0
TELL_SECONDS = 60.0
# The clients of such a board are told so at once, in words.
REVOKED = ("was revoked", "does not accept this device's token")
FAILURES = (ProgramFailed, OSError, TimeoutError, subprocess.CalledProcessError)
CLIENT_TOKENS = 200
CLIENTS_OF_AN_AGENT = 2
# By parts of the whole time. The verifier and one agent are left running for most of it: what they
# hold is measured there.
PLAN: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("verifier stopped and started", (0.05, 0.95)),
    ("verifier killed and started", (0.10, 0.97)),
    ("agent stopped and started", (0.08, 0.30, 0.50, 0.70, 0.90)),
    ("agent killed and started", (0.20, 0.40, 0.60, 0.80)),
    ("certificate renewed", tuple(0.03 + 0.1 * i for i in range(10))),
    ("certificate with another key", tuple(0.07 + 0.1 * i for i in range(9))),
    ("token of an agent replaced", tuple(0.04 + 0.06 * i for i in range(15))),
    ("tokens of a fleet replaced", tuple(0.12 + 0.1 * i for i in range(8))),
    ("verifier reloaded", tuple(0.02 + 0.04 * i for i in range(23))),
    ("verifier reloaded with an error", tuple(0.06 + 0.2 * i for i in range(5))),
    ("agents reloaded", tuple(0.05 + 0.08 * i for i in range(11))),
)


@dataclass
class Outcome:
    """What came of it."""

    events: Counter[str] = field(default_factory=Counter)
    num_chats: int = 0
    num_tokens: int = 0
    excused: Counter[str] = field(default_factory=Counter)  # asked again, with good reason
    violations: list[str] = field(default_factory=list)
    memory: MemoryWatch = field(default_factory=MemoryWatch)
    minutes: float = 0.0


@dataclass
class Soak:
    """One run."""

    site: Site
    minutes: float
    outcome: Outcome = field(default_factory=Outcome)
    began_at: float = field(default_factory=time.monotonic)
    num_starts: Counter[str] = field(default_factory=Counter)  # of agents, by name
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def passed(self) -> float:
        """Minutes."""
        return (time.monotonic() - self.began_at) / 60

    async def run(self) -> None:
        """Until the time is over, or `is_over` is set."""
        # A connection for each request: one that is kept may be closed just when it is used again.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(work) for work in (self._watch(), self._tell())]
            numbers = count()
            chatting = [
                tasks.create_task(self._chat(http, name, number))
                for name in self.site.agents
                for _, number in zip(range(CLIENTS_OF_AN_AGENT), numbers, strict=False)
            ]
            happening = tasks.create_task(self._happen())
            await self._is_over_within(60 * self.minutes)
            self.is_over.set()
            await asyncio.wait([happening])  # nothing is left half done
            await asyncio.wait(chatting)
            for task in watching:
                task.cancel()
        self.outcome.minutes = self.passed

    async def _is_over_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self.is_over.wait()
        return self.is_over.is_set()

    async def _happen(self) -> None:
        plan = sorted((part * self.minutes, kind) for kind, parts in PLAN for part in parts)
        for minute, kind in plan:
            if await self._is_over_within(60 * (minute - self.passed)):
                return
            try:
                await self._deed(kind)()
            except FAILURES as error:  # told in the report, and the soak goes on
                self.outcome.violations.append(f"{kind}, minute {minute:.1f}: {error!r}")
            self.outcome.events[kind] += 1

    def _deed(self, kind: str) -> Callable[[], Awaitable[None]]:
        site = self.site
        number = self.outcome.events[kind]
        restarted = "modelless" if number % 2 else "scripted"
        deeds: dict[str, Callable[[], Awaitable[None]]] = {
            "verifier stopped and started": lambda: site.restart(site.verifier, signal.SIGTERM),
            "verifier killed and started": lambda: site.restart(site.verifier, signal.SIGKILL),
            "agent stopped and started": lambda: self._restart_agent(signal.SIGTERM),
            "agent killed and started": lambda: self._restart_agent(signal.SIGKILL),
            "certificate renewed": lambda: site.rotate_certificate(keeps_key=True),
            "certificate with another key": lambda: site.rotate_certificate(keeps_key=False),
            "token of an agent replaced": lambda: site.rotate_token_of_agent(restarted),
            "tokens of a fleet replaced": site.rotate_fleet,
            "verifier reloaded": lambda: asyncio.to_thread(site.reload_verifier),
            "verifier reloaded with an error": lambda: asyncio.to_thread(
                site.reload_verifier_wrongly
            ),
            "agents reloaded": self._reload_agents,
        }
        return deeds[kind]

    async def _restart_agent(self, number: signal.Signals) -> None:
        self.num_starts["scripted"] += 1
        await self.site.restart(self.site.agents["scripted"], number)
        self.num_starts["scripted"] += 1

    async def _reload_agents(self) -> None:
        for agent in self.site.agents.values():
            agent.send(signal.SIGHUP)

    async def _chat(self, http: aiohttp.ClientSession, name: str, number: int) -> None:
        agent = self.site.agents[name]
        for i in count():
            if self.is_over.is_set():
                return
            sampling = SamplingParameters(0.8) if i % 2 else GREEDY
            chat = Chat(f"hello {number} {i % 500}", sampling, i, CLIENT_TOKENS)
            await self._answer(http, agent, chat)
            await self._is_over_within(self.site.load.think_seconds / 2)

    async def _answer(self, http: aiohttp.ClientSession, agent: ServingProgram, chat: Chat) -> None:
        """Ask until there is a whole answer: only a restarted agent may break one off."""
        expected = target_text(chat.request)
        while not self.is_over.is_set():
            starts = self.num_starts[agent.name]
            client = Client(chat.prompt)
            await client.ask(http, agent.url, chat.body)
            is_restarted = starts % 2 == 1 or starts != self.num_starts[agent.name]
            text = "".join(client.pieces)
            why = self._excuse(client, is_restarted=is_restarted)
            if client.error is None or why is None:
                break
            if not expected.startswith(text):
                self.outcome.violations.append(f"{agent.name}: {chat}: broken off in {text!r}")
            self.outcome.excused[why] += 1
            await asyncio.sleep(0.5)
        else:
            return
        self.outcome.num_chats += 1
        self.outcome.num_tokens += chat.max_tokens
        if client.error is not None or text != expected:
            what = client.error or f"wrote {text!r} in place of {expected!r}"
            self.outcome.violations.append(
                f"{agent.name}, minute {self.passed:.1f}: {chat}: {what}"
            )

    def _excuse(self, client: Client, *, is_restarted: bool) -> str | None:
        """Why a client may ask again; None: its answer should have come whole."""
        error = client.error or ""
        if is_restarted:
            return "agent restarted"
        if client.is_turned_away:
            return "no verifier yet"
        if any(words in error for words in REVOKED):
            return "told that the token was revoked"
        # On a machine that stands still for seconds a request comes too late for the agent.
        if not client.pieces and error.startswith(("ClientOSError", "ServerDisconnectedError")):
            return "not connected in time"
        return None

    async def _watch(self) -> None:
        while True:
            for name, program in (
                ("verifier", self.site.verifier),
                *self.site.agents.items(),
                *((f"fleet {name}", fleet) for name, fleet in self.site.fleets.items()),
            ):
                if program.is_running:
                    self.outcome.memory.take(name, program.process_id, self.passed)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            outcome = self.outcome
            print(
                f"{self.passed:5.1f} min: {outcome.events.total()} events, {outcome.num_chats} "
                f"chats, {len(outcome.violations)} violations, "
                f"{outcome.memory.core_seconds() / 60 / self.passed:.2f} of a core",
                flush=True,
            )
            for violation in outcome.violations[-3:]:
                print(f"      {violation[:300]}", flush=True)


@click.command()
@click.option("--minutes", type=click.FloatRange(0.1), default=60.0, show_default=True)
@click.option(
    "--warm-up",
    type=click.FloatRange(0),
    default=8.0,
    show_default=True,
    help="First minutes of a process that do not count, in which caches, counters, estimates and "
    "the allocator's pools fill; at most a third of the run.",
)
@click.option("--boards", type=click.IntRange(10), default=198, show_default=True)
@click.option("--rotating", type=click.IntRange(1), default=4, help="Boards of the second fleet.")
@click.option("--round-ms", type=click.FloatRange(0), default=50.0, show_default=True)
@click.option("--think", type=click.FloatRange(0), default=20.0, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="All logs go into this directory.")
def main(
    minutes: float,
    warm_up: float,
    boards: int,
    rotating: int,
    round_ms: float,
    think: float,
    keep: Path | None,
) -> None:
    """Run the soak and print what came of it; exit code 1 if anything was lost or grows."""
    if keep is not None:
        keep.mkdir(parents=True)
    load = Load(boards, rotating, round_ms, think)
    sys.exit(asyncio.run(_run(load, minutes, min(warm_up, minutes / 3), keep)))


async def _run(load: Load, minutes: float, warm_up_minutes: float, keep: Path | None) -> int:
    async with running_site(load, keep) as site:
        soak = Soak(site, minutes)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, soak.is_over.set)
        await soak.run()
        await asyncio.to_thread(site.stop)
        errors, num_finished = _fleets(site)
    outcome = soak.outcome
    outcome.violations += [line for line in errors if line.startswith(OF_A_STREAM)]
    return _print(outcome, errors, num_finished, load, warm_up_minutes)


def _fleets(site: Site) -> tuple[Counter[str], int]:
    """Errors by sentence, and streams that were finished, of all fleets that there were."""
    errors: Counter[str] = Counter()
    num_finished = 0
    for path in site.reports:
        text = path.read_text() if path.exists() else ""
        if not text:
            errors[f"{OF_A_STREAM}s unknown: {path.name} of a fleet is empty"] += 1
            continue
        report = json.loads(text)
        errors.update(report["errors"])
        num_finished += report["num_streams_finished"]
    return errors, num_finished


def _print(
    outcome: Outcome,
    errors: Counter[str],
    num_finished: int,
    load: Load,
    warm_up_minutes: float,
) -> int:
    print(f"\n{outcome.minutes:.1f} minutes with {load.num_boards} boards of fleets and 2 agents")
    for kind, number in outcome.events.items():
        print(f"  {number:3} × {kind}")
    print(f"{num_finished} streams of fleets finished, every text compared")
    for sentence, number in errors.most_common():
        print(f"  {number:4} × {sentence}")
    print(
        f"{outcome.num_chats} answers of agents, {outcome.num_tokens} tokens, every text compared"
    )
    print(f"  asked again: {dict(outcome.excused) or 'none'}")
    print(f"{outcome.memory.core_seconds() / 60 / outcome.minutes:.2f} of a core")
    growths = outcome.memory.growths(warm_up_minutes, least_minutes=outcome.minutes / 2)
    grows = False
    for name, growth in growths.items():
        is_too_much = growth.slope > MOST_MEGABYTES_A_MINUTE
        grows = grows or is_too_much
        print(f"{name}: {growth}{', TOO MUCH' if is_too_much else ''}")
    print(f"{len(outcome.violations)} violations (lost, wrong or repeated tokens; failed events)")
    for violation in outcome.violations:
        print(f"  {violation}")
    return 1 if outcome.violations or grows else 0


if __name__ == "__main__":
    main(prog_name=f"{sys.executable} -m tests.benchmarks.soak")
