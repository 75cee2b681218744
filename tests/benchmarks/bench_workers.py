"""What a worker behind a socket costs, and how many of them one verifier feeds.

Planner, engine, streams and policy are the verifier's own; boards are played in place and draft
four tokens of which the next one survives in 0.8 of the cases; targets sleep. Every pair of arms is
run in turns.

    python -m tests.benchmarks.bench_workers            # a worker ÷ the same engine in process
    python -m tests.benchmarks.bench_workers eight      # eight workers ÷ one
    python -m tests.benchmarks.bench_workers lost       # killed and frozen: when it is noticed
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from shared.daemon.resources.interpreter_turns import short_turns
from shared.protocol.draft_path import DraftToken, Extension
from tests.benchmarks.fleet_verifier import GreedyTable
from tests.support.ends.loopback import round_settings
from tests.support.ends.planning import make_stream
from tests.support.ends.waiting import eventually
from tests.support.ends.worker_facts import SECRET, scripted_facts
from verifier.cost_curve.curve import CostCurve
from verifier.engine.engine import Engine, RoundReport
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.worker import Worker
from verifier.policies import policy_named
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.goodput_of_workers import GoodputOfWorkers
from verifier.streams.stream import Stream
from verifier.target.target import TargetModel
from verifier.workers.kept_process import serve_kept
from verifier.workers.local_worker import LocalWorker
from verifier.workers.messages import Facts
from verifier.workers.orders import WorkerOrder

NUM_STREAMS = 64  # at each worker
NUM_DRAFTS, ACCEPTANCE = 4, 0.8
NUM_BLOCKS = 1 << 15
SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
WARM_SECONDS = 1.0
DEADLINE_SECONDS = 1.0
REPEATS = int(os.environ.get("BENCH_REPEATS", "5"))


class Boards:
    """Drafts of all streams, made when their verdicts come, and the rounds that are counted."""

    def __init__(self, round_seconds: float) -> None:
        self.table = GreedyTable(0.0, 1)
        self.curve = [(1, 1, round_seconds), (1024, 1, round_seconds + 1024e-6)]
        self.draw = random.Random(1)
        self.num_rounds = 0
        self.num_tokens = 0
        self.num_streams = 0
        self.served: set[int] = set()  # streams that have a token
        self.wake = lambda: None

    def streams(self, count: int) -> list[Stream]:
        made = []
        self.num_streams = count
        for number in range(count):
            estimates = DeviceEstimates(goodput=GoodputOfWorkers())
            prompt = tuple(self.draw.randrange(1, 60) for _ in range(1024))
            stream = make_stream(
                number,
                device=f"board-{number}",
                device_estimates=estimates,
                prompt_ids=prompt,
                max_output_tokens=10**5,
                draft_context_tokens=10**6,
                draft_length=None,
            )
            stream.board_is_ready = True
            made.append(stream)
        return made

    def deliver(self, results: list[StreamResult]) -> None:
        now = time.monotonic()
        for result in results:
            self.num_tokens += result.settled.num_tokens
            self.served.add(result.stream.number)
            self._draft(result.stream, now)
        self.wake()

    def report(self, report: RoundReport) -> None:
        self.num_rounds += 1

    def _draft(self, stream: Stream, now: float) -> None:
        if stream.window == 0 or stream.path.live:
            return
        before, last = (*stream.request.prompt_ids[-2:], *stream.output_ids[-2:])[-2:]
        tokens = []
        for _ in range(min(NUM_DRAFTS, stream.window)):
            right = self.table._next[before][last]
            token = right if self.draw.random() < ACCEPTANCE else 1 + right % 60
            tokens.append(DraftToken(token, None, False))
            before, last = last, token
        stream.receive_draft(Extension(stream.path.base, stream.position, tuple(tokens)), 0.0, now)


def planner_of(target: TargetModel, boards: Boards) -> RoundPlanner:
    """As the verifier has it, with the default policy."""
    settings = round_settings(uses_guard=True, budget_tokens=None)
    settings = msgspec.structs.replace(  # so that prompts are soon read
        settings,
        prefill_chunk_tokens=1024,
        prefill_slowdown_limit=100.0,
        device_prefill_slowdown_limit=100.0,
    )
    curve = CostCurve.from_samples(boards.curve)
    blocks = BlockPool(target.num_blocks, target.block_tokens)
    return RoundPlanner(settings, policy_named("goodspeed"), curve, blocks)


async def measure(boards: Boards, run: Engine | ManyWorkers) -> tuple[float, float]:
    """Rounds and tokens per second, once all is warm."""
    boards.wake = run.wake
    running = asyncio.create_task(run.run())
    await eventually(lambda: len(boards.served) >= boards.num_streams, 60)
    await asyncio.sleep(WARM_SECONDS)
    began, rounds, tokens = time.monotonic(), boards.num_rounds, boards.num_tokens
    await asyncio.sleep(SECONDS)
    seconds = time.monotonic() - began
    rates = (boards.num_rounds - rounds) / seconds, (boards.num_tokens - tokens) / seconds
    run.stop()
    await running
    return rates


def in_process(round_seconds: float) -> tuple[float, float]:
    """The engine with its target in a thread."""
    boards, target = Boards(round_seconds), GreedyTable(round_seconds, NUM_BLOCKS)
    planner = planner_of(target, boards)
    for stream in boards.streams(NUM_STREAMS):
        planner.add(stream)

    async def run() -> tuple[float, float]:
        return await measure(boards, Engine(planner, target, boards.deliver, boards.report))

    return asyncio.run(run())


def at_workers(round_seconds: float, count: int) -> tuple[float, float]:
    """The same engine for each of so many workers."""
    with sources(round_seconds, count) as started:
        boards = Boards(round_seconds)
        workers = workers_of(started, boards)

        async def run() -> tuple[float, float]:
            for stream in boards.streams(NUM_STREAMS * count):
                workers.add(stream)
            return await measure(boards, workers)

        return asyncio.run(run())


def workers_of(started: Sequence[LocalWorker], boards: Boards) -> ManyWorkers:
    """All of them, connected."""
    made = []
    for number, source in enumerate(started):
        target = source.reach(None)
        made.append(Worker(number, source, planner_of(target, boards), target))
    workers = ManyWorkers(made)
    workers.begin(boards.deliver, boards.report)
    return workers


@contextmanager
def sources(round_seconds: float, count: int) -> Iterator[list[LocalWorker]]:
    """Processes whose rounds sleep so long."""
    made = [
        LocalWorker(
            WorkerOrder(f"worker {number}", SECRET, {"round_seconds": round_seconds}),
            [sys.executable, "-m", "tests.benchmarks.bench_workers", "worker"],
            dict(os.environ),
            lambda round_: DEADLINE_SECONDS,
        )
        for number in range(count)
    ]
    for source in made:
        source.start()
    try:
        yield made
    finally:
        for source in made:
            source.close()


def load(order: WorkerOrder) -> tuple[TargetModel, Facts]:
    """Of a worker's process."""
    target = GreedyTable(float(str(order.settings["round_seconds"])), NUM_BLOCKS)
    facts = scripted_facts(target, order.name)
    return target, msgspec.structs.replace(facts, process_id=os.getpid())


def compare_one() -> None:
    """A worker over a socket against the same engine in this process."""
    for milliseconds in (25.0, 6.0):
        ratios = []
        for _ in range(REPEATS):
            own, own_tokens = in_process(milliseconds / 1e3)
            remote, remote_tokens = at_workers(milliseconds / 1e3, 1)
            ratios.append(remote / own)
            print(
                f"{milliseconds:g} ms, {NUM_STREAMS} streams: {own:.1f} rounds/s in process "
                f"({own_tokens:.0f} tokens/s), {remote:.1f} at a worker ({remote_tokens:.0f}), "
                f"ratio {remote / own:.3f}",
                flush=True,
            )
        print(f"{milliseconds:g} ms: {told(ratios)}", flush=True)


def compare_eight() -> None:
    """Eight workers of 25 ms against one."""
    ratios = []
    for _ in range(REPEATS):
        one, one_tokens = at_workers(0.025, 1)
        eight, eight_tokens = at_workers(0.025, 8)
        ratios.append(eight_tokens / one_tokens)
        print(
            f"25 ms: one worker {one:.1f} rounds/s, {one_tokens:.0f} tokens/s; eight {eight:.1f} "
            f"rounds/s, {eight_tokens:.0f} tokens/s; ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(told(ratios), flush=True)


def lose(how: signal.Signals) -> None:
    """How long after a worker was killed or frozen in mid round its streams are somewhere else."""
    with sources(0.025, 2) as started:
        boards = Boards(0.025)
        workers = workers_of(started, boards)

        async def run() -> list[float]:
            for stream in boards.streams(2 * NUM_STREAMS):
                workers.add(stream)
            boards.wake = workers.wake
            running = asyncio.create_task(workers.run())
            noticed = []
            for number in itertools.islice(itertools.cycle((0, 1)), 2 * REPEATS):
                worker = workers.workers[number]
                await eventually(lambda w=worker: w.is_serving and w.num_rounds > 0, 60)
                await asyncio.sleep(0.3 + boards.draw.uniform(0, 0.05))
                lost, process = worker.num_lost, started[number].process_id
                assert process is not None
                os.kill(process, how)
                at = time.monotonic()
                await eventually(lambda w=worker, n=lost: w.num_lost > n)  # looks every 2 ms
                noticed.append(time.monotonic() - at)
            workers.stop()
            await running
            return noticed

        noticed = asyncio.run(run())
    print(f"{how.name}: streams moved after, in ms: {told([1e3 * s for s in noticed])}", flush=True)


def told(values: Sequence[float]) -> str:
    """Median and spread."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"median {middle:.3f} ({least:.3f} to {most:.3f}, {len(values)} runs)"


if __name__ == "__main__":
    with short_turns():
        match sys.argv[1:]:
            case ["worker", number]:
                serve_kept(int(number), load)
            case ["eight"]:
                compare_eight()
            case ["lost"]:
                lose(signal.SIGKILL)
                lose(signal.SIGSTOP)  # the deadline of a round is DEADLINE_SECONDS
            case _:
                compare_one()
