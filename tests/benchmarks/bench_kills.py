"""Workers are killed in mid round again and again beneath chats: is a token lost or changed?

Boards, a verifier and worker processes over real sockets, with a scripted target. Two workers, one
of which is killed with kill -9 at a random moment of a round while the other one serves, too.

    python -m tests.benchmarks.bench_kills                       # 500, some twenty minutes
    python -m tests.benchmarks.bench_kills --side-by-side 12     # so many at once, 4 cores each
    python -m tests.benchmarks.bench_kills --kills 50 --ray      # workers that Ray has placed
    python -m tests.benchmarks.bench_kills --kills 20 --restart  # asked to end, one by one

Tokens of moved streams are read anew, so many in a round as others' rounds may grow by. The rounds
of the other worker in which none is read count as waiting.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import GenerationRequest
from shared.daemon.resources.interpreter_turns import short_turns
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import chat, generate, loopback, round_settings
from tests.support.ends.scripted import TARGET, board, target_text
from tests.support.ends.waiting import eventually
from tests.support.ends.workers import local_worker, placed_workers, service_of
from tests.support.statistics.next_token_statistics import p_value
from verifier.engine.engine import Engine, RoundReport
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.worker import Worker
from verifier.placement.relocation import all_streams
from verifier.recording.parts import prompt_tokens_of
from verifier.streams.stream import Stream
from verifier.target.round import Round
from verifier.workers.local_worker import LocalWorker
from verifier.workers.on_ray.placed_worker import PlacedWorker

MODES = ("greedy", "coupled", "rejection")
SAMPLED = SamplingParameters(0.8)
NUM_BOARDS, NUM_TOKENS = 3, 160
ROUND_SECONDS = 0.010
PATIENCE_SECONDS = 240.0
NUM_BINS = 100
# The tests' own chunk is small; here what others' rounds may grow by is the limit, as in the field.
SETTINGS = msgspec.structs.replace(round_settings(), prefill_chunk_tokens=1024)

Source = LocalWorker | PlacedWorker


def _no_places() -> NDArray[np.int64]:
    return np.zeros(NUM_BINS, dtype=np.int64)


@dataclass
class Found:
    """All that came of it; seconds, each from the kill."""

    num_texts: int = 0
    num_tokens: int = 0
    wrong: list[str] = field(default_factory=list)
    places: NDArray[np.int64] = field(default_factory=_no_places)  # of tokens of `rejection`
    noticed: list[float] = field(default_factory=list)  # until its streams are elsewhere
    first_tokens: list[float] = field(default_factory=list)  # until each has another token
    rounds: list[float] = field(default_factory=list)  # the other worker's in that time
    waited_rounds: list[float] = field(default_factory=list)  # of these, that read nothing anew
    back: list[float] = field(default_factory=list)  # until the worker serves again
    before: list[float] = field(default_factory=list)  # between rounds of the other, before a kill
    after: list[float] = field(default_factory=list)  # and after it

    def add(self, other: Found) -> None:
        """What came of another run."""
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))

    def p_value(self) -> float:
        """Chance of a worse fit to the target's distributions, by chi-square; NaN: too few."""
        if self.places.sum() < 10 * NUM_BINS:
            return math.nan
        return p_value([(self.places, np.full(NUM_BINS, 1.0 / NUM_BINS))])


class Chats:
    """One after the other, of every mode at every board; all that comes is compared."""

    def __init__(self, found: Found, seed: int = 0) -> None:
        self.found = found
        self._draw = random.Random(7 + seed)
        self._numbers = itertools.count(100_000 * seed)
        self.is_over = False

    async def ask(self, agent: Agent, mode: str) -> None:
        """Until it is over."""
        while not self.is_over:
            number = next(self._numbers)
            request = GenerationRequest(
                messages=chat(f"hello {number}"),
                sampling=GREEDY if mode == "greedy" else SAMPLED,
                acceptance_mode="rejection" if mode == "rejection" else "coupled",
                seed=number,
                max_tokens=NUM_TOKENS,
            )
            text, finished = await generate(agent, request)
            self.found.num_texts += 1
            self.found.num_tokens += len(finished.token_ids)
            if mode == "rejection":
                self._count(finished.token_ids)
            if finished.reason != "length":
                self.found.wrong.append(f"{mode} {number} ended with {finished.reason}")
            if mode != "rejection" and text != target_text(request):
                self.found.wrong.append(f"{mode} {number} has another text")

    def _count(self, token_ids: Sequence[int]) -> None:
        """Where each token lies in its distribution, by the two before it: evenly, if it is true.

        These two are all that the scripted model looks at; a token has the width of its chance.
        """
        for first, second, token in zip(token_ids, token_ids[1:], token_ids[2:], strict=False):
            probs = dense_probabilities(TARGET.logits((first, second)), SAMPLED)
            place = probs[:token].sum() + self._draw.random() * probs[token]
            self.found.places[min(int(place * NUM_BINS), NUM_BINS - 1)] += 1


class Kills:
    """One after the other."""

    def __init__(
        self, workers: ManyWorkers, sources: Sequence[Source], found: Found, seed: int
    ) -> None:
        self._found = found
        self._workers = workers
        self._sources = sources
        self._draw = random.Random(5 + seed)
        self._victim = 0
        self._rounds: dict[int, list[float]] = {0: [], 1: []}
        self._reading: list[set[int]] = []  # streams, in each of the other worker's since a kill

    def note_round(self, worker: int, round_: Round) -> None:
        """One is over."""
        self._rounds[worker].append(time.monotonic())
        if worker != self._victim:
            self._reading.append({item.stream for item in round_.items if prompt_tokens_of(item)})

    async def one(self, end: Callable[[int], None]) -> None:
        """Let one worker end in mid round, and see what follows."""
        both = self._workers.workers
        await eventually(lambda: all(worker.is_serving for worker in both), PATIENCE_SECONDS)
        for times in self._rounds.values():
            times.clear()
        await asyncio.sleep(self._draw.uniform(0.1, 0.3))
        await eventually(lambda: any(_is_in_round(worker) for worker in both), PATIENCE_SECONDS)
        victim = self._draw.choice([worker.number for worker in both if _is_in_round(worker)])
        worker = both[victim]
        await asyncio.sleep(self._draw.uniform(0.0, ROUND_SECONDS))
        others_rounds = self._rounds[1 - victim]
        self._found.before += _pauses(others_rounds)
        others_rounds.clear()
        self._reading.clear()
        self._victim = victim
        streams = {s.number: (s, s.position) for s in all_streams(worker.planner)}
        num_lost, at = worker.num_lost, time.monotonic()
        end(victim)
        await self._see_moved(worker, num_lost, at, streams)
        self._found.after += _pauses(others_rounds)
        await eventually(lambda: worker.is_serving, PATIENCE_SECONDS)
        self._found.back.append(time.monotonic() - at)

    async def _see_moved(
        self, worker: Worker, num_lost: int, at: float, waiting: dict[int, tuple[Stream, int]]
    ) -> None:
        """Until each of the streams has a token beyond its position."""
        moved = set(waiting)
        has_noticed = False
        while waiting or not has_noticed:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            if not has_noticed and (worker.num_lost > num_lost or not worker.is_serving):
                has_noticed = True
                self._found.noticed.append(now - at)
            for number, (stream, position) in list(waiting.items()):
                if stream.position > position or stream.finish is not None:
                    del waiting[number]
                    self._found.first_tokens.append(now - at)
                    self._found.rounds.append(len(self._reading))
                    num_waited = sum([not reading & moved for reading in self._reading])
                    self._found.waited_rounds.append(num_waited)
            if now - at > PATIENCE_SECONDS:
                raise TimeoutError("a moved stream has stopped")

    def kill(self, victim: int) -> None:
        """As the kernel does."""
        process = self._sources[victim].process_id
        assert process is not None
        os.kill(process, signal.SIGKILL)

    def restart(self, victim: int) -> None:
        """As an operator does."""
        refusal = self._workers.restart(victim)
        assert refusal is None, refusal


async def run(sources: Sequence[Source], num_kills: int, seed: int, *, restarts: bool) -> Found:
    """All of it."""
    service, found = service_of(sources, SETTINGS), Found()
    workers = service.workers
    assert workers is not None
    chats = Chats(found, seed)
    kills = Kills(workers, sources, found, seed)
    async with loopback(service, [board() for _ in range(NUM_BOARDS)]) as (_, agents):
        for worker in workers.workers:
            note_rounds(worker.engine, partial(kills.note_round, worker.number))
        asking = [asyncio.create_task(chats.ask(agent, mode)) for agent in agents for mode in MODES]
        for number in range(1, num_kills + 1):
            await kills.one(kills.restart if restarts else kills.kill)
            if number % 25 == 0:
                _print(number, found)
        chats.is_over = True
        await asyncio.gather(*asking)
    for planner in workers.planners:
        planner.blocks.check_integrity()
    return found


def note_rounds(engine: Engine, note: Callable[[Round], None]) -> None:
    """Call it with each round that is over, too."""
    report = engine._report

    def report_and_note(told: RoundReport) -> None:
        note(told.round_)
        report(told)

    engine._report = report_and_note


def _is_in_round(worker: Worker) -> bool:
    return worker.is_serving and worker.engine.round_started_at is not None


def _pauses(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def _print(number: int, found: Found) -> None:
    within = statistics.fmean([waited <= 3 for waited in found.waited_rounds])
    print(
        f"{number} times: {found.num_texts} texts, {found.num_tokens} tokens, {len(found.wrong)} "
        f"wrong; rejection p = {found.p_value():.3f} over {found.places.sum()} tokens; in ms: "
        f"noticed {_told(found.noticed)}, first token {_told(found.first_tokens)}, serves again "
        f"{_told(found.back)}; rounds of the other worker {_told(found.before)} before, "
        f"{_told(found.after)} after; its rounds until the first token {_told(found.rounds, 1.0)}, "
        f"of which read nothing anew {_told(found.waited_rounds, 1.0)}: 3 or fewer for "
        f"{100 * within:.1f} %",
        flush=True,
    )


def _told(values: Sequence[float], unit: float = 1e3) -> str:
    if len(values) < 2:
        return "–"
    cuts = statistics.quantiles([unit * value for value in values], n=100, method="inclusive")
    return f"{cuts[49]:.0f} (p99 {cuts[98]:.0f}, most {unit * max(values):.0f})"


@contextmanager
def _sources(*, on_ray: bool) -> Iterator[Sequence[Source]]:
    with ExitStack() as stack:
        if on_ray:
            yield stack.enter_context(placed_workers(2, delay_seconds=ROUND_SECONDS))
            return
        made = [local_worker(number, delay_seconds=ROUND_SECONDS) for number in range(2)]
        for source in made:
            stack.callback(source.close)
            source.start()
        yield made


def _measure(seed: int, num_kills: int, cores: set[int], on_ray: bool, restarts: bool) -> Found:
    os.sched_setaffinity(0, cores)  # its workers', too
    logging.basicConfig(level=logging.ERROR)  # a loss is no news here
    with _sources(on_ray=on_ray) as sources, short_turns():
        return asyncio.run(run(sources, num_kills, seed, restarts=restarts))


@click.command()
@click.option("--kills", "num_kills", type=click.IntRange(1), default=500, show_default=True)
@click.option("--side-by-side", "count", default=1, show_default=True, help="Runs that share them.")
@click.option("--ray", "on_ray", is_flag=True, help="Workers that Ray has placed.")
@click.option("--restart", "restarts", is_flag=True, help="They are restarted, not killed.")
def main(num_kills: int, count: int, on_ray: bool, restarts: bool) -> None:
    """Print what came of it, now and then; exit code 1 if a text is wrong."""
    cores = sorted(os.sched_getaffinity(0))
    found, each = Found(), math.ceil(num_kills / count)
    with ProcessPoolExecutor(count) as pool:
        runs = [
            pool.submit(_measure, seed, each, set(cores[seed::count] or cores), on_ray, restarts)
            for seed in range(count)
        ]
        for one in runs:
            found.add(one.result())
    _print(count * each, found)
    for sentence in found.wrong:
        print(sentence)
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
