"""The loop of rounds: one at a time, in one thread, until it is stopped."""

from __future__ import annotations

import asyncio
import threading

from shared.messages import Open
from shared.token_ids import pack_token_ids
from tests.support.loopback import round_settings
from tests.support.scripted import scripted_service
from tests.support.waiting import eventually
from tests.verifier.test_service import Mailbox
from verifier.engine import Engine, RoundReport
from verifier.rounds import StreamResult
from verifier.service import VerifierService
from verifier.target import Round, RoundOutcome, TargetModel

PROMPT = pack_token_ids([1, 2, 3])


class GatedTarget:
    """Lets a test hold a round."""

    def __init__(self, target: TargetModel) -> None:
        self.target = target
        self.gate = threading.Event()
        self.rounds: list[Round] = []
        self.threads: set[str] = set()

    def __getattr__(self, name: str) -> object:
        return getattr(self.target, name)

    def verify(self, round_: Round) -> RoundOutcome:
        self.rounds.append(round_)
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(10)
        return self.target.verify(round_)


class Parts:
    """An engine with what it drives and what it says."""

    def __init__(self) -> None:
        self.service: VerifierService = scripted_service(settings=round_settings())
        self.target = GatedTarget(self.service.target)
        self.delivered: list[StreamResult] = []
        self.reports: list[RoundReport] = []
        self.engine = Engine(
            self.service.planner,
            self.target,  # type: ignore[arg-type]  # the rest is there by __getattr__
            self.delivered.extend,
            self.reports.append,
        )

    async def open(self, max_tokens: int = 4) -> None:
        message = Open(0, 0, prompt=PROMPT, max_tokens=max_tokens)
        await self.service.open_stream(self.service.device("board"), Mailbox(), message)
        self.engine.wake()


def test_rounds_run_in_one_thread_until_there_is_no_work() -> None:
    async def run() -> Parts:
        parts = Parts()
        parts.target.gate.set()
        running = asyncio.create_task(parts.engine.run())
        await parts.open()
        await eventually(lambda: len(parts.delivered) == 4)
        await parts.open()
        await eventually(lambda: len(parts.delivered) == 8)
        parts.engine.stop()
        await running
        return parts

    parts = asyncio.run(run())
    assert 8 == len(parts.target.rounds)
    assert {"goodspeed-engine_0"} == parts.target.threads
    assert parts.target.rounds == [report.round_ for report in parts.reports]
    for report in parts.reports:
        phases = report.plan_seconds + report.forward_seconds + report.settle_seconds
        assert 0 < phases <= report.total_seconds


def test_the_event_loop_goes_on_during_a_round() -> None:
    async def run() -> None:
        parts = Parts()
        running = asyncio.create_task(parts.engine.run())
        await parts.open()
        await eventually(lambda: len(parts.target.rounds) == 1)
        assert [] == parts.delivered
        parts.target.gate.set()
        await eventually(lambda: len(parts.delivered) == 4)
        parts.engine.stop()
        await running

    asyncio.run(run())


def test_a_stop_settles_the_round_in_hand_and_starts_no_other() -> None:
    async def run() -> Parts:
        parts = Parts()
        running = asyncio.create_task(parts.engine.run())
        await parts.open()
        await eventually(lambda: len(parts.target.rounds) == 1)
        parts.engine.stop()
        parts.target.gate.set()
        await running
        return parts

    parts = asyncio.run(run())
    assert 1 == len(parts.target.rounds)
    assert 1 == len(parts.delivered)


def test_a_stop_while_nothing_is_to_do_ends_at_once() -> None:
    async def run() -> None:
        parts = Parts()
        running = asyncio.create_task(parts.engine.run())
        await asyncio.sleep(0)
        parts.engine.stop()
        await asyncio.wait_for(running, 1)

    asyncio.run(run())


def test_a_stop_before_the_first_round_is_not_forgotten() -> None:
    async def run() -> None:
        parts = Parts()
        parts.engine.stop()
        await asyncio.wait_for(parts.engine.run(), 1)

    asyncio.run(run())


def test_a_stopped_engine_may_run_again() -> None:
    async def run() -> int:
        parts = Parts()
        parts.target.gate.set()
        parts.engine.stop()
        await parts.engine.run()
        running = asyncio.create_task(parts.engine.run())
        await parts.open()
        await eventually(lambda: len(parts.delivered) == 4)
        parts.engine.stop()
        await running
        return len(parts.target.rounds)

    assert 4 == asyncio.run(run())
