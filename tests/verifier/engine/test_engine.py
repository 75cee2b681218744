"""The loop of rounds: one at a time, in one thread, until it is stopped."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.protocol.messages import Open
from shared.protocol.token_ids import pack_token_ids
from tests.support.ends.loopback import round_settings
from tests.support.ends.scripted import scripted_service
from tests.support.ends.waiting import eventually
from tests.verifier.engine.test_service import Mailbox
from verifier.engine.engine import Engine, RoundReport
from verifier.engine.service import VerifierService
from verifier.rounds.planner import StreamResult
from verifier.streams.stream import Stream
from verifier.target.round import ItemOutcome, Round, RoundOutcome
from verifier.target.target import TargetModel

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

    def run(self, round_: Round) -> RoundOutcome:
        self.rounds.append(round_)
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(10)
        return self.target.run(round_)


class Parts:
    """An engine with what it drives and what it says."""

    def __init__(self) -> None:
        self.service: VerifierService = scripted_service(settings=round_settings())
        self.target = GatedTarget(self.service.target)
        self.delivered: list[StreamResult] = []
        self.reports: list[RoundReport] = []
        self.num_opened = 0
        self.engine = Engine(
            self.service.planner,
            self.target,  # type: ignore[arg-type]  # the rest is there by __getattr__
            self.delivered.extend,
            self.reports.append,
        )

    async def open(self, max_tokens: int = 4, device: str = "board") -> Stream:
        message = Open(0, self.num_opened, prompt=PROMPT, max_tokens=max_tokens)
        self.num_opened += 1
        stream = await self.service.open_stream(self.service.device(device), Mailbox(), message)
        self.engine.wake()
        return stream

    def deliver_to(self, deliver: Callable[[list[StreamResult]], None]) -> None:
        self.engine = Engine(
            self.service.planner,
            self.target,  # type: ignore[arg-type]
            deliver,
            self.reports.append,
        )

    async def play(self) -> None:
        """Run rounds until all streams have ended."""
        running = asyncio.create_task(self.engine.run())
        planner = self.service.planner
        await eventually(lambda: not (planner.streams or planner.queue))
        self.engine.stop()
        await running


def watched(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to rounds, in order; a start that found no work is in brackets."""
    events: list[str] = []
    planner = parts.service.planner

    def watch(name: str) -> None:
        method = getattr(planner, name)

        def told(*arguments: Any) -> Any:
            result = method(*arguments)
            events.append(f"[{name}]" if result is None else name)
            return result

        monkeypatch.setattr(planner, name, told)

    for name in ("start_round", "finish_round", "abandon_round", "follow_up"):
        watch(name)

    def deliver(results: list[StreamResult]) -> None:
        parts.delivered += results
        events.append("deliver")

    parts.deliver_to(deliver)
    return events


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
        target_seconds = report.forward_seconds + report.sampling_seconds
        phases = report.plan_seconds + target_seconds + report.settle_seconds
        assert 0 < phases <= report.total_seconds
        assert 0 < report.deliver_seconds
        assert 0 < report.follow_up_seconds


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


def test_who_watches_sees_since_when_a_round_is_in_hand() -> None:
    async def run() -> None:
        parts = Parts()
        running = asyncio.create_task(parts.engine.run())
        assert parts.engine.round_started_at is None
        before = time.monotonic()
        await parts.open(max_tokens=1)
        await eventually(lambda: len(parts.target.rounds) == 1)
        started_at = parts.engine.round_started_at
        assert started_at is not None
        assert before <= started_at <= time.monotonic()
        parts.target.gate.set()
        await eventually(lambda: len(parts.delivered) == 1)
        assert parts.engine.round_started_at is None
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


# --- verdicts -------------------------------------------------------------------------------------


def test_verdicts_are_handed_out_while_the_next_round_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts()
    parts.target.gate.set()
    events = watched(parts, monkeypatch)

    async def run() -> None:
        await parts.open(max_tokens=3)
        await parts.play()

    asyncio.run(run())
    first = ["start_round", "[follow_up]"]
    one_after_another = ["finish_round", "start_round", "deliver", "[follow_up]"]
    last = ["finish_round", "[start_round]", "deliver", "[follow_up]"]
    assert [*first, *one_after_another * 2, *last] == events[:14]
    assert {"[start_round]", "[follow_up]"} >= set(events[14:])
    assert [0, 1, 2] == [result.settled.position for result in parts.delivered]


def test_beside_a_device_with_many_streams_another_is_told_before_the_next_round_starts() -> None:
    """To start a round takes the interpreter for a while, now more, now less."""
    events: list[str] = []

    async def run() -> None:
        parts = Parts()
        start = parts.service.planner.start_round

        def started(now: float) -> Round | None:
            events.append("start")
            return start(now)

        parts.service.planner.start_round = started  # type: ignore[method-assign]
        parts.deliver_to(lambda results: events.extend(r.stream.device for r in results))
        for device in ("many",) * 6 + ("good",):
            await parts.open(max_tokens=1, device=device)
        parts.target.gate.set()
        await parts.play()

    asyncio.run(run())
    assert ["start", "good", *["many"] * 3, "start", *["many"] * 3] == events[:9]


def test_verdicts_of_a_round_before_a_failure_and_those_of_the_failure_come_in_order(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts()
    events = watched(parts, monkeypatch)
    verify = parts.target.target.run

    def fail_second(round_: Round) -> RoundOutcome:
        if len(parts.target.rounds) == 2:
            raise ZeroDivisionError
        return verify(round_)

    monkeypatch.setattr(parts.target.target, "run", fail_second)
    parts.target.gate.set()

    async def run() -> None:
        await parts.open(max_tokens=3)
        await parts.play()

    asyncio.run(run())
    assert "ZeroDivisionError" in caplog.text
    assert [
        *("start_round", "[follow_up]"),
        *("finish_round", "start_round", "deliver", "[follow_up]"),
        *("abandon_round", "[start_round]", "deliver"),
    ] == events[:9]
    assert [None, "the target model failed"] == [result.failure for result in parts.delivered]
    assert 1 == len(parts.reports)


def test_a_stream_that_came_during_a_round_that_failed_is_served_in_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts()
    events = watched(parts, monkeypatch)
    verify = parts.target.target.run

    def fail_first(round_: Round) -> RoundOutcome:
        if len(parts.target.rounds) == 1:
            raise ZeroDivisionError
        return verify(round_)

    monkeypatch.setattr(parts.target.target, "run", fail_first)

    async def run() -> Stream:
        running = asyncio.create_task(parts.engine.run())
        await parts.open()
        await eventually(lambda: len(parts.target.rounds) == 1)
        second = await parts.open(max_tokens=2)
        parts.target.gate.set()
        await eventually(lambda: len(parts.delivered) == 3)
        parts.engine.stop()
        await running
        return second

    second = asyncio.run(run())
    assert "ZeroDivisionError" in caplog.text
    failed = ["start_round", "[follow_up]", "abandon_round", "start_round", "deliver"]
    assert failed == events[:5]
    assert ["the target model failed", None, None] == [r.failure for r in parts.delivered]
    assert [second.number] * 2 == [result.stream.number for result in parts.delivered[1:]]


def test_what_is_cancelled_during_a_round_ends_with_that_round() -> None:
    """Its last verdict comes behind that of the round before, which is out by then."""

    async def run() -> Parts:
        parts = Parts()
        running = asyncio.create_task(parts.engine.run())
        stream = await parts.open()
        await eventually(lambda: len(parts.target.rounds) == 1)
        assert None is parts.service.planner.cancel(stream)
        parts.target.gate.set()
        await eventually(lambda: bool(parts.delivered))
        parts.engine.stop()
        await running
        return parts

    parts = asyncio.run(run())
    (result,) = parts.delivered
    assert result.stream.finish is not None
    assert "cancelled" == result.stream.finish.reason
    assert 1 == len(parts.target.rounds)


def test_a_verdict_is_out_before_anybody_can_cancel_the_round_behind_it() -> None:
    parts = Parts()
    positions: list[int] = []
    is_running: list[bool] = []

    def deliver(results: list[StreamResult]) -> None:
        for result in results:
            positions.append(result.settled.position)
            # A cancellation that comes now is answered with the end of the round behind.
            if result.stream.finish is None:
                is_running.append(parts.service.planner.cancel(result.stream) is None)

    parts.deliver_to(deliver)
    parts.target.gate.set()

    async def run() -> None:
        await parts.open()
        await parts.play()

    asyncio.run(run())
    assert [0, 1] == positions
    assert [True] == is_running


def test_what_is_discarded_between_two_rounds_is_not_heard_of_again() -> None:
    parts = Parts()
    dropped: list[int] = []

    def deliver(results: list[StreamResult]) -> None:
        parts.delivered += results
        for result in results:
            if result.stream.position == 2:
                dropped.append(result.stream.number)
                parts.service.planner.discard(result.stream)

    parts.deliver_to(deliver)
    parts.target.gate.set()

    async def run() -> None:
        await parts.open(max_tokens=9)
        await parts.open(max_tokens=3)
        await parts.play()

    asyncio.run(run())
    assert 2 == len(dropped)
    assert [1, 2, 1, 2] == [result.stream.number for result in parts.delivered]
    parts.service.planner.blocks.check_integrity()


def test_a_stop_while_verdicts_are_handed_out_waits_for_the_round_that_runs() -> None:
    parts = Parts()

    def deliver(results: list[StreamResult]) -> None:
        parts.delivered += results
        parts.engine.stop()

    parts.deliver_to(deliver)
    parts.target.gate.set()

    async def run() -> None:
        await parts.open()
        await asyncio.wait_for(parts.engine.run(), 10)

    asyncio.run(run())
    assert 2 == len(parts.target.rounds)
    assert [0, 1] == [result.settled.position for result in parts.delivered]
    assert parts.target.rounds == [report.round_ for report in parts.reports]


def test_a_target_that_takes_no_time_leaves_others_their_turn() -> None:
    """Reading, writing and pings live on the same loop: every round lets it go round once."""
    parts = Parts()
    num_turns = 0

    async def count_turns() -> None:
        nonlocal num_turns
        while True:
            await asyncio.sleep(0)
            num_turns += 1

    class InstantTarget:
        def run(self, round_: Round) -> RoundOutcome:
            outcome = ItemOutcome(num_accepted=0, token_id=20)
            return RoundOutcome((outcome,) * len(round_.items), 0.0, 0.0)

    parts.target.target = InstantTarget()  # type: ignore[assignment]
    parts.target.gate.set()

    async def run() -> None:
        counting = asyncio.create_task(count_turns())
        await parts.open(max_tokens=200)
        await parts.play()
        counting.cancel()

    asyncio.run(run())
    assert 200 == len(parts.delivered)
    assert num_turns >= 200


def test_while_rounds_run_python_seldom_looks_for_garbage_and_as_before_after_that() -> None:
    before, frozen_before = gc.get_threshold(), gc.get_freeze_count()

    async def run() -> tuple[int, int]:
        parts = Parts()
        running = asyncio.create_task(parts.engine.run())
        await asyncio.sleep(0)
        meanwhile = gc.get_threshold()[0], gc.get_freeze_count()
        parts.engine.stop()
        await running
        return meanwhile

    threshold, num_frozen = asyncio.run(run())
    assert threshold > before[0]
    assert num_frozen > frozen_before
    assert (before, 0) == (gc.get_threshold(), gc.get_freeze_count())


def test_what_a_round_takes_beyond_the_target_is_its_overhead() -> None:
    report = RoundReport(
        round_=Round(items=()),
        plan_seconds=0.002,
        forward_seconds=0.02,
        sampling_seconds=0.001,
        settle_seconds=0.003,
        deliver_seconds=0.004,
        follow_up_seconds=0.005,
        total_seconds=0.03,
    )
    assert pytest.approx(0.009) == report.overhead_seconds
