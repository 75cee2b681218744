"""Several workers serve as one verifier: streams are placed and moved, and texts are equal."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from shared.errors import LinkLost
from shared.protocol.messages import Error, ErrorCode, Open
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.scripted import TARGET, scripted_service
from tests.support.ends.waiting import eventually
from tests.support.ends.workers import ThreadSource, ThreadWorker, local_worker, service_of
from tests.verifier.engine.test_service import Mailbox, running
from verifier.engine import engine
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.service import VerifierService
from verifier.engine.worker import Worker, WorkerState
from verifier.policies import RatePolicy
from verifier.policies.awc_weights import SHIPPED
from verifier.rounds.operators_terms import set_device_terms
from verifier.rounds.planner import StreamResult
from verifier.rounds.settings import RoundsSection
from verifier.startup import replace_policies
from verifier.target.round import Round, RoundOutcome
from verifier.target.scripted_target import ScriptedTarget
from verifier.workers.local_worker import LocalWorker
from verifier.workers.remote_target import RemoteTarget

NUM_TOKENS = 40


class Gated(ScriptedTarget):
    """Rounds take a moment, so that things happen in them, and wait while the gate is shut."""

    def __init__(self, delay_seconds: float = 0.002) -> None:
        super().__init__(TARGET, delay_seconds=lambda num_tokens: delay_seconds)
        self.gate = threading.Event()
        self.gate.set()
        self.num_rounds = 0

    def run(self, round_: Round) -> RoundOutcome:
        self.num_rounds += 1
        self.gate.wait(10)
        return super().run(round_)


def message(stream_id: int, num_tokens: int = NUM_TOKENS, seed: int = 3) -> Open:
    sampling = GREEDY if stream_id % 2 else SamplingParameters(0.8)
    prompt = pack_token_ids([1, 2, 3 + stream_id % 50])
    return Open(
        stream_id, stream_id, prompt=prompt, sampling=sampling, seed=seed, max_tokens=num_tokens
    )


def texts_in_process(num_streams: int, num_tokens: int = NUM_TOKENS) -> list[list[int]]:
    async def run() -> list[list[int]]:
        service = scripted_service()
        async with running(service) as (device, _):
            boxes = await opened(service, num_streams, num_tokens)
            await eventually(lambda: all(box.ended for box in boxes), 60)
            del device
            return [box.token_ids for box in boxes]

    return asyncio.run(run())


async def opened(
    service: VerifierService, num_streams: int, num_tokens: int = NUM_TOKENS
) -> list[Mailbox]:
    boxes = [Mailbox() for _ in range(num_streams)]
    for i, box in enumerate(boxes):
        device = service.device(f"board-{i % 3}")
        await service.open_stream(device, box, message(i, num_tokens))
    return boxes


@contextmanager
def thread_workers(count: int, delay_seconds: float = 0.002) -> Iterator[list[ThreadSource]]:
    with ExitStack() as stack:
        sources = []
        for number in range(count):
            worker = ThreadWorker(Gated(delay_seconds), f"worker {number}")
            stack.callback(worker.close)
            sources.append(ThreadSource(worker, lambda round_: 5.0))
        yield sources


@asynccontextmanager
async def served_by(
    sources: list[ThreadSource],
) -> AsyncIterator[tuple[VerifierService, ManyWorkers]]:
    service = service_of(sources)
    assert service.workers is not None
    async with running(service):
        yield service, service.workers


def cut(workers: ManyWorkers, number: int) -> None:
    """The connection to a worker breaks, as when its process is killed."""
    workers.workers[number].target._framed.shut_down()


def test_streams_spread_over_equal_workers_and_write_the_same_texts() -> None:
    expected = texts_in_process(8)

    async def run() -> list[list[int]]:
        with thread_workers(2) as sources:
            async with served_by(sources) as (service, workers):
                boxes = await opened(service, 8)
                assert [4, 4] == [worker.num_streams for worker in workers.workers]
                await eventually(lambda: all(box.ended for box in boxes), 60)
                assert {} == workers._home
                assert not workers._counted
            return [box.token_ids for box in boxes]

    assert expected == asyncio.run(run())


def test_a_worker_lost_in_a_round_costs_no_token_and_comes_back() -> None:
    expected = texts_in_process(9)

    async def run() -> list[list[int]]:
        with thread_workers(2) as sources:
            async with served_by(sources) as (service, workers):
                boxes = await opened(service, 9)
                await eventually(lambda: all(len(box.token_ids) > 4 for box in boxes))
                cut(workers, 0)
                await eventually(lambda: workers.workers[0].num_lost == 1)
                await eventually(lambda: workers.workers[0].is_serving)
                assert workers.workers[0].num_moved_out
                await eventually(lambda: all(box.ended for box in boxes), 60)
            return [box.token_ids for box in boxes]

    assert expected == asyncio.run(run())


def test_all_streams_go_on_at_the_last_worker_and_wait_when_there_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = texts_in_process(6)

    async def run() -> list[list[int]]:
        with thread_workers(2) as sources:
            async with served_by(sources) as (service, workers):
                boxes = await opened(service, 6)
                await eventually(lambda: all(box.token_ids for box in boxes))
                both_are_lost = threading.Event()
                for number, source in enumerate(sources):
                    source.awaited = both_are_lost
                    cut(workers, number)
                await eventually(lambda: all(worker.num_lost for worker in workers.workers))
                both_are_lost.set()
                await eventually(lambda: all(box.ended for box in boxes), 60)
            return [box.token_ids for box in boxes]

    assert expected == asyncio.run(run())
    told = [r.message for r in caplog.records if r.message.startswith("worker ")]
    lost = [message for message in told if "is lost" in message]
    assert [False, True] == ["none is left: its streams wait" in message for message in lost]


def test_a_drained_worker_has_no_stream_and_gets_none() -> None:
    expected = texts_in_process(6)

    async def run() -> list[list[int]]:
        with thread_workers(2) as sources:
            async with served_by(sources) as (service, workers):
                boxes = await opened(service, 4)
                await eventually(lambda: all(box.token_ids for box in boxes))
                first, second = workers.workers
                assert workers.drain(0) is None
                await eventually(lambda: first.state is WorkerState.DRAINED)
                assert 0 == first.num_streams
                more = [Mailbox(), Mailbox()]
                for i, box in enumerate(more, start=4):
                    await service.open_stream(service.device("board"), box, message(i))
                assert 0 == first.num_streams
                assert "worker 1 is the last one that serves" == workers.drain(1)
                boxes += more
                await eventually(lambda: all(box.ended for box in boxes), 60)
                assert 0 == first.num_lost == second.num_lost
            return [box.token_ids for box in boxes]

    assert expected == asyncio.run(run())


def test_a_worker_that_joins_takes_streams_where_that_pays() -> None:
    async def run(sources: list[ThreadSource], again: ThreadWorker) -> None:
        async with served_by(sources) as (service, workers):
            workers.drain(0)
            await opened(service, 16, 2000)
            assert [0, 16] == [worker.num_streams for worker in workers.workers]
            workers.restart(0)
            sources[0].running = again
            await eventually(lambda: workers.workers[0].num_moved_in > 0)
            counts = [worker.num_streams for worker in workers.workers]
            assert 16 == sum(counts)
            assert max(counts) < 16

    with thread_workers(3, 0.01) as sources:  # as their curves say
        asyncio.run(run(sources[:2], sources[2].running))


def test_a_stream_that_is_cancelled_or_discarded_in_a_lost_round_ends() -> None:
    async def run() -> None:
        with thread_workers(2) as sources:
            async with served_by(sources) as (service, workers):
                boxes = [Mailbox() for _ in range(4)]
                streams = []
                for i, box in enumerate(boxes):
                    stream = await service.open_stream(
                        service.device("board"), box, message(i, 1000)
                    )
                    assert stream is not None
                    streams.append(stream)
                await eventually(lambda: all(box.token_ids for box in boxes))
                homes = [workers._home[stream.number] for stream in streams]
                gates = [s.running.target.gate for s in sources]  # type: ignore[attr-defined]
                for gate in gates:
                    gate.clear()
                await eventually(
                    lambda: all(w.engine.round_started_at is not None for w in workers.workers)
                )
                service.cancel(streams[0])
                service.discard(streams[1])
                service.park(streams[2])
                for number in {home.number for home in homes}:
                    cut(workers, number)
                for gate in gates:
                    gate.set()
                await eventually(lambda: bool(boxes[0].ended))
                finish = boxes[0].verdicts[-1].finish
                assert finish is not None
                assert "cancelled" == finish.reason
                await eventually(lambda: all(w.is_serving for w in workers.workers))
                num_tokens = len(boxes[3].token_ids)
                await eventually(lambda: len(boxes[3].token_ids) > num_tokens)
                assert {streams[2].number, streams[3].number} == set(workers._home)
                service.discard(streams[3])
                for planner in workers.planners:
                    planner.blocks.check_integrity()

    asyncio.run(run())


@contextmanager
def process_workers(count: int, **settings: object) -> Iterator[list[LocalWorker]]:
    sources = [local_worker(number, **settings) for number in range(count)]
    for source in sources:
        source.start()
    try:
        yield sources
    finally:
        for source in sources:
            source.close()


def test_killed_processes_cost_no_token() -> None:
    """kill -9 in mid round, of one of two, again and again: equal texts."""
    expected = texts_in_process(8, 120)

    async def run(sources: list[LocalWorker]) -> tuple[list[list[int]], int]:
        service = service_of(sources)
        workers = service.workers
        assert workers is not None
        draw = random.Random(5)
        async with running(service):
            boxes = await opened(service, 8, 120)
            for _ in range(3):
                await asyncio.sleep(draw.uniform(0.05, 0.15))
                victim = draw.randrange(2)
                await eventually(lambda v=victim: workers.workers[v].is_serving, 60)
                num_lost = workers.workers[victim].num_lost
                killed = sources[victim].process_id
                assert killed is not None
                os.kill(killed, signal.SIGKILL)
                await eventually(lambda v=victim, n=num_lost: workers.workers[v].num_lost > n, 60)
            await eventually(lambda: all(box.ended for box in boxes), 120)
        return [box.token_ids for box in boxes], sum(w.num_lost for w in workers.workers)

    with process_workers(2, delay_seconds=0.01) as sources:
        texts, num_lost = asyncio.run(run(sources))
    assert expected == texts
    assert 3 == num_lost


def test_a_stream_that_kills_every_worker_ends_alone() -> None:
    """Its rounds are halved until it stands alone; the texts of all others are whole."""
    expected = texts_in_process(4)

    async def run(sources: list[LocalWorker]) -> list[Mailbox]:
        service = service_of(sources)
        async with running(service):
            boxes = [Mailbox() for _ in range(5)]
            poisoned = Open(
                9, 9, prompt=pack_token_ids([63, 1, 2]), sampling=GREEDY, seed=1, max_tokens=8
            )
            for i, box in enumerate(boxes):
                asked = poisoned if i == 4 else message(i)
                await service.open_stream(service.device(f"board-{i}"), box, asked)
            await eventually(lambda: all(box.ended for box in boxes), 120)
        return boxes

    with process_workers(2, poison=63) as sources:
        *others, guilty = asyncio.run(run(sources))
    told = [one for one in guilty.messages if isinstance(one, Error)]
    assert [ErrorCode.MODEL] == [one.code for one in told]
    assert "lost in every round with this stream" in told[0].sentence
    assert expected == [box.token_ids for box in others]


def test_a_frozen_worker_is_ended_and_started_anew() -> None:
    expected = texts_in_process(4, 200)

    async def run(sources: list[LocalWorker]) -> list[list[int]]:
        for source in sources:
            source._round_deadline_seconds = lambda round_: 0.5
        service = service_of(sources)
        workers = service.workers
        assert workers is not None
        async with running(service):
            boxes = await opened(service, 4, 200)
            await eventually(lambda: all(box.token_ids for box in boxes))
            frozen = sources[0].process_id
            assert frozen is not None
            os.kill(frozen, signal.SIGSTOP)
            at = time.monotonic()
            await eventually(lambda: workers.workers[0].num_lost == 1)
            assert time.monotonic() - at < 3.0
            await eventually(lambda: all(box.ended for box in boxes), 120)
            await eventually(lambda: workers.workers[0].is_serving, 60)
            assert frozen != sources[0].process_id
        return [box.token_ids for box in boxes]

    with process_workers(2, delay_seconds=0.005) as sources:
        assert expected == asyncio.run(run(sources))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_verifier_stops_without_leaving_anything(num_workers: int) -> None:
    async def run() -> None:
        with thread_workers(num_workers) as sources:
            async with served_by(sources) as (service, _):
                await opened(service, 2, 1000)
                await asyncio.sleep(0.05)
            assert all(source.is_closed for source in sources)

    before = gc.get_threshold()
    asyncio.run(run())
    assert (before, 0) == (gc.get_threshold(), gc.get_freeze_count())


@pytest.mark.parametrize("goes_at_once", [True, False])
def test_a_round_is_on_its_way_before_the_verdicts_of_the_one_before_go_out(
    monkeypatch: pytest.MonkeyPatch, goes_at_once: bool
) -> None:
    monkeypatch.setattr(engine, "MOST_START_SECONDS", 10.0)  # cores may be busy
    events: list[str] = []

    async def run() -> None:
        with thread_workers(1) as sources:
            async with served_by(sources) as (service, workers):
                worker = workers.workers[0]
                framed, deliver = worker.target._framed, worker.engine._deliver
                send_at_once, send_frame = framed.send_at_once, framed.send_frame

                def sent_at_once(frame: bytes) -> bytes:
                    if not goes_at_once:
                        return frame
                    assert not send_at_once(frame)
                    events.append("sent")
                    return b""

                def sent(frame: bytes, seconds: float) -> None:
                    send_frame(frame, seconds)
                    time.sleep(0.002)  # all others could go on now
                    events.append("sent")

                def delivered(results: list[StreamResult]) -> None:
                    events.append("delivered")
                    deliver(results)

                framed.send_at_once = sent_at_once  # type: ignore[method-assign]
                framed.send_frame = sent  # type: ignore[method-assign]
                worker.engine._deliver = delivered
                (box,) = await opened(service, 1, 20)
                await eventually(lambda: bool(box.ended))

    asyncio.run(run())
    assert ["sent", *["sent", "delivered"] * 19, "delivered"] == events


def test_what_a_cancelled_watch_reaches_after_all_is_closed() -> None:
    closed: list[str] = []
    begun, goes_on = threading.Event(), threading.Event()

    class Reached:
        def close(self, because: str) -> None:
            closed.append(because)

    class Source:
        name = "slow"

        def reach(self, lost: object) -> Reached:
            begun.set()
            goes_on.wait()
            return Reached()

    async def cancelled() -> None:
        worker = Worker(0, Source(), None, None)  # type: ignore[arg-type]
        reaching = asyncio.create_task(worker.reach())
        await asyncio.to_thread(begun.wait)
        reaching.cancel()
        await asyncio.wait([reaching])
        goes_on.set()
        await eventually(lambda: bool(closed))

    asyncio.run(cancelled())
    assert ["the verifier has ended"] == closed


def test_a_worker_that_joins_takes_streams_over_and_is_looked_after_like_the_others() -> None:
    expected = texts_in_process(8, 200)

    async def run(sources: list[ThreadSource]) -> list[list[int]]:
        service = service_of(sources[:1], joining={"a second": sources[1]})
        workers = service.workers
        assert workers is not None
        async with running(service):
            boxes = await opened(service, 8, 200)
            set_device_terms(service.planner, frozenset({"away"}), {"kitchen": 2.0}, {})
            replace_policies(service, RoundsSection(policy="rate", slowdown_limit=0.5))
            assert workers.add_worker("a second") is None
            await eventually(lambda: len(workers.workers) == 2)
            joined = workers.workers[1].planner
            assert isinstance(joined.policy, RatePolicy)  # its own, though: it learns
            assert joined.policy is not service.planner.policy
            assert 0.5 == joined.settings.schedule.limits.slowdown_limit
            assert {"away"} == joined.patience.paused
            assert {"kitchen": 2.0} == joined.settings.schedule.device_weights
            await eventually(lambda: workers.workers[1].num_streams > 0)
            await eventually(lambda: workers.workers[1].num_rounds > 3)
            cut(workers, 1)
            await eventually(lambda: workers.workers[1].num_lost == 1)
            await eventually(lambda: workers.workers[1].is_serving)
            await eventually(lambda: all(box.ended for box in boxes), 60)
        assert workers.workers[1].num_moved_in > 0
        assert sources[1].is_closed
        return [box.token_ids for box in boxes]

    with thread_workers(2) as sources:
        assert expected == asyncio.run(run(sources))


def test_a_worker_that_cannot_plan_as_the_others_do_does_not_join(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = tmp_path / "weights.json"
    shutil.copy(SHIPPED, weights)

    async def run(sources: list[ThreadSource]) -> None:
        service = service_of(sources[:1], joining={"a second": sources[1]})
        workers = service.workers
        assert workers is not None
        async with running(service):
            replace_policies(service, RoundsSection(policy="awc", awc_weights=weights))
            weights.unlink()
            assert workers.add_worker("a second") is None
            await eventually(lambda: "no worker joins: rounds.awc_weights" in caplog.text)
            await eventually(lambda: not sources[1].running.port.serves_now)
        assert 1 == len(workers.workers)

    with thread_workers(2) as sources:
        asyncio.run(run(sources))


def test_a_worker_that_cannot_join_disturbs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Away(ThreadSource):
        def reach(self, lost: RemoteTarget | None = None) -> RemoteTarget:
            raise LinkLost("no worker answers at nowhere")

    async def run(sources: list[ThreadSource]) -> None:
        away = Away(sources[0].running, lambda round_: 5.0)
        service = service_of(sources, joining={"nowhere": away})
        workers = service.workers
        assert workers is not None
        async with running(service):
            assert workers.add_worker("nowhere") is None
            await eventually(lambda: "no worker joins: no worker answers" in caplog.text)
            boxes = await opened(service, 2)
            await eventually(lambda: all(box.ended for box in boxes), 60)
        assert 1 == len(workers.workers)

    with thread_workers(1) as sources:
        asyncio.run(run(sources))
