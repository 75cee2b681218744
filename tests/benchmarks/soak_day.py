"""A day in virtual time: certificates and tokens change, boards pause, all is restarted.

Both ends are the real ones, over real sockets with TLS, in this process: the verifier's server and
engine, and the links and streams of `goodspeed-agent fleet`; only the target is scripted, and the
clock jumps to the next timer when there is nothing to do. Every text is compared with what the
target alone writes. Ctrl-C ends it with the whole report of what was done.

    nice -n 10 python -m tests.benchmarks.soak_day --hours 24
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import selectors
import signal
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import click

from edge_agent.draft_model.model_free_drafter import ModelFreeDrafter
from edge_agent.fleet.board import FleetBoard
from edge_agent.fleet.draft_source import scripted_guess
from edge_agent.fleet.tally import FleetTally
from edge_agent.fleet.workload import FleetLoad
from edge_agent.link.link import make_hello
from shared.config.secrets import NUM_SECRET_BYTES
from shared.daemon.http_server import listen
from shared.daemon.tls.server_tls import ServerTls, read_server_tls
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes
from tests.benchmarks.soak_fleet import OF_A_STREAM, checked_texts
from tests.benchmarks.soak_memory import MemoryWatch
from tests.support.ends.loopback import make_server
from tests.support.ends.scripted import MODEL_SEED, VOCAB_SIZE, scripted_service
from tests.support.network.certificates import Authority
from tests.support.programs.ports import free_port
from verifier.engine.device_terms import AllTerms, DeviceTerms
from verifier.engine.terms_in_force import TermsInForce
from verifier.server.device_tokens import new_token
from verifier.server.operator_pages import ON_LOOPBACK
from verifier.server.server import VerifierServer

HOUR = 3600.0
ROUND_SECONDS = 0.05
DOWN_SECONDS = 20.0
PAUSE_SECONDS = 600.0
BOARD_RESTARTS_EVERY, VERIFIER_RESTARTS_EVERY = 2, 4  # hours
MOST_MEGABYTES_A_MINUTE = 0.1


class _JumpingSelector(selectors.DefaultSelector):
    """Where nothing is ready the time until the next timer is over at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "the loop waits for something that never comes"
            self.seconds += timeout
        return ready


class DayLoop(asyncio.SelectorEventLoop):
    """Virtual time with sockets of this machine; what threads would do is done at once."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """A round among others; its result comes when a round would be over."""
        future = self.create_future()
        result = func(*args)
        self.call_later(ROUND_SECONDS, lambda: future.cancelled() or future.set_result(result))
        return future


@dataclass
class Day:
    """One run."""

    directory: Path
    num_boards: int
    load: FleetLoad
    tally: FleetTally
    authority: Authority
    port: int = field(default_factory=free_port)
    events: Counter[str] = field(default_factory=Counter)
    memory: MemoryWatch = field(default_factory=MemoryWatch)
    tokens: dict[str, str] = field(default_factory=dict)  # device to token
    digests: dict[str, str] = field(default_factory=dict)
    running: dict[int, asyncio.Task[None]] = field(default_factory=dict)  # by board
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        token_bytes = scripted_token_bytes(VOCAB_SIZE)
        self.drafter = ModelFreeDrafter(token_bytes, 1, self.load.context_tokens)
        self.guess = scripted_guess(ScriptedModel(VOCAB_SIZE, MODEL_SEED, disagreement=0.2))
        self.hello = make_hello(
            self.drafter,
            context_tokens=self.load.context_tokens,
            draft_token_seconds=1 / self.load.draft_tokens_per_second,
            max_streams=1,
        )

    async def run(self, num_hours: int) -> None:
        """So many simulated hours, or until `is_over` is set."""
        connector = aiohttp.TCPConnector(
            limit=0, ssl=ssl.create_default_context(cafile=str(self.authority.file))
        )
        await self._start_verifier()
        async with aiohttp.ClientSession(connector=connector) as self.http:
            for number in range(self.num_boards):
                self._renew_token(number)
                self._start_board(number)
            for hour in range(num_hours):
                began_at = time.perf_counter()
                self.memory.take("both ends", os.getpid(), 60.0 * hour)
                await self._hour(hour)
                if self.is_over.is_set():
                    break
                self._tell(hour + 1, time.perf_counter() - began_at)
            for task in self.running.values():
                task.cancel()
            await asyncio.wait(self.running.values())
        await self.server.stop()

    async def _hour(self, hour: int) -> None:
        number = hour % self.num_boards
        paused = f"board-{(number + 1) % self.num_boards}"
        terms = AllTerms({paused: DeviceTerms(is_paused=True)})
        for kind, act in (
            ("certificates replaced", self._replace_certificate),
            ("tokens replaced", lambda: self._replace_token(number)),
            ("boards paused", lambda: self.terms.take_over(terms)),
        ):
            act()
            self.events[kind] += 1
            await self._pass(PAUSE_SECONDS)
        self.terms.take_over(AllTerms())
        if hour % BOARD_RESTARTS_EVERY == 1:
            await self._restart_board((number + 2) % self.num_boards)
            self.events["boards restarted"] += 1
        if hour % VERIFIER_RESTARTS_EVERY == 2:
            await self.server.stop()
            # A verifier that starts never looks again for garbage among what is there, which in
            # this process is the boards', too.
            gc.collect()
            await asyncio.sleep(DOWN_SECONDS)
            await self._start_verifier()
            self.events["verifiers restarted"] += 1
        await self._pass(HOUR - 3 * PAUSE_SECONDS)

    async def _pass(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.is_over.wait()

    async def _start_verifier(self) -> None:
        self.service = scripted_service()
        self.terms = TermsInForce(self.service)
        self.server: VerifierServer = make_server(
            self.service, dict(self.digests), max_connections=1000, tls=self._new_certificate()
        )
        await self.server.start(listen("localhost", self.port))

    def _new_certificate(self) -> ServerTls:
        tls = read_server_tls(*self.authority.write("server"))
        assert tls is not None
        return tls

    def _replace_certificate(self) -> None:
        self.server.replace_tls(self._new_certificate())

    def _renew_token(self, number: int) -> None:
        """The old one is worth nothing from now on: its connection ends."""
        name = f"board-{number}"
        self.tokens[name], line = new_token(name, secrets.token_bytes(NUM_SECRET_BYTES))
        self.digests[name] = line.split()[1]
        self.server.replace_access(dict(self.digests), ON_LOOPBACK)

    def _replace_token(self, number: int) -> None:
        self._renew_token(number)
        old = self.running[number]
        old.add_done_callback(lambda _: self._start_board(number))  # it is refused, and ends

    async def _restart_board(self, number: int) -> None:
        self.running[number].cancel()
        await asyncio.wait([self.running[number]])
        self._start_board(number)

    def _start_board(self, number: int) -> None:
        token = self.tokens[f"board-{number}"]
        board = FleetBoard(
            number, token, self.hello, self.drafter, self.guess, self.load, self.tally
        )
        running = board.run(self.http, f"wss://localhost:{self.port}")
        self.running[number] = asyncio.get_running_loop().create_task(running)

    def _tell(self, hours: int, seconds: float) -> None:
        print(
            f"{hours:3} h: {self.tally.num_connected} boards connected, "
            f"{self.tally.num_streams_finished} streams, {self.events.total()} events, "
            f"{len(self.violations)} kinds of violations; this hour took {seconds:.0f} s",
            flush=True,
        )

    @property
    def violations(self) -> list[str]:
        return [sentence for sentence in self.tally.errors if sentence.startswith(OF_A_STREAM)]


@click.command()
@click.option("--hours", type=click.IntRange(1), default=24, show_default=True)
@click.option("--boards", type=click.IntRange(3), default=20, show_default=True)
@click.option("--think", type=click.FloatRange(0), default=120.0, show_default=True)
def main(hours: int, boards: int, think: float) -> None:
    """Run the day and print what came of it; exit code 1 if anything was lost or grows."""
    load = FleetLoad(think_seconds=think)
    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=DayLoop) as runner:
        loop = runner.get_loop()

        async def play() -> Day:
            directory = Path(name)
            tally = FleetTally(boards, loop.time())
            day = Day(directory, boards, load, tally, Authority(directory))
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, day.is_over.set)
            await day.run(hours)
            return day

        with checked_texts(), patch.object(time, "monotonic", loop.time):
            day = runner.run(play())
        seconds = loop.time()
    sys.exit(_print(day, seconds))


def _print(day: Day, seconds: float) -> int:
    gc.collect()
    print(f"\n{seconds / HOUR:.1f} simulated hours with {day.num_boards} boards")
    for kind, number in day.events.items():
        print(f"  {number:3} × {kind}")
    tally = day.tally
    print(f"{tally.num_streams_finished} streams, {tally.output_tokens} tokens, all compared")
    for sentence, number in tally.errors.most_common():
        print(f"  {number:4} × {sentence}")
    growths = day.memory.growths(warm_up_minutes=seconds / 240, least_minutes=seconds / 120)
    for name, growth in growths.items():
        print(f"{name}: {growth}")
    print(f"{len(day.violations)} kinds of violations (lost, wrong or repeated tokens)")
    grows = any(growth.slope > MOST_MEGABYTES_A_MINUTE for growth in growths.values())
    return 1 if day.violations or grows else 0


if __name__ == "__main__":
    main(prog_name=f"{sys.executable} -m tests.benchmarks.soak_day")
