"""Workers are killed in mid round again and again beneath chats: is a token lost or changed?

Boards, a verifier and worker processes over real sockets, with a scripted target. Two workers, one
of which is killed with kill -9 at a random moment of a round while the other one serves, too.

    python -m tests.benchmarks.bench_kills                       # 500, some twenty minutes
    python -m tests.benchmarks.bench_kills --kills 50 --ray      # workers that Ray has placed
    python -m tests.benchmarks.bench_kills --kills 20 --restart  # asked to end, one by one
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
from contextlib import ExitStack, contextmanager

import click
import numpy as np

from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import GenerationRequest
from shared.daemon.resources.interpreter_turns import short_turns
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import chat, generate, loopback
from tests.support.ends.scripted import TARGET, board, target_text
from tests.support.ends.waiting import eventually
from tests.support.ends.workers import local_worker, placed_workers, service_of
from tests.support.statistics.next_token_statistics import p_value
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.worker import Worker
from verifier.placement.relocation import all_streams
from verifier.rounds.planner import StreamResult
from verifier.workers.local_worker import LocalWorker
from verifier.workers.on_ray.placed_worker import PlacedWorker

MODES = ("greedy", "coupled", "rejection")
SAMPLED = SamplingParameters(0.8)
NUM_BOARDS, NUM_TOKENS = 3, 160
ROUND_SECONDS = 0.010
PATIENCE_SECONDS = 240.0
NUM_BINS = 100

Source = LocalWorker | PlacedWorker


class Chats:
    """One after the other, of every mode at every board; all that comes is compared."""

    def __init__(self) -> None:
        self.num_texts = self.num_tokens = 0
        self.wrong: list[str] = []
        self.places = np.zeros(NUM_BINS, dtype=np.int64)
        self._draw = random.Random(7)
        self._numbers = itertools.count()
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
            self.num_texts += 1
            self.num_tokens += len(finished.token_ids)
            if mode == "rejection":
                self._count(finished.token_ids)
            if finished.reason != "length":
                self.wrong.append(f"{mode} {number} ended with {finished.reason}")
            if mode != "rejection" and text != target_text(request):
                self.wrong.append(f"{mode} {number} has another text")

    def _count(self, token_ids: Sequence[int]) -> None:
        """Where each token lies in its distribution, by the two before it: evenly, if it is true.

        These two are all that the scripted model looks at; a token has the width of its chance.
        """
        for first, second, token in zip(token_ids, token_ids[1:], token_ids[2:], strict=False):
            probs = dense_probabilities(TARGET.logits((first, second)), SAMPLED)
            place = probs[:token].sum() + self._draw.random() * probs[token]
            self.places[min(int(place * NUM_BINS), NUM_BINS - 1)] += 1

    def p_value(self) -> float:
        """Chance of a worse fit to the target's distributions, by chi-square; NaN: too few."""
        if self.places.sum() < 10 * NUM_BINS:
            return math.nan
        return p_value([(self.places, np.full(NUM_BINS, 1.0 / NUM_BINS))])


class Kills:
    """What came of each."""

    def __init__(self, workers: ManyWorkers, sources: Sequence[Source]) -> None:
        self.noticed: list[float] = []  # seconds until its streams are elsewhere
        self.first_tokens: list[float] = []  # until each of these has another token
        self.back: list[float] = []  # until the worker serves again
        self.survivors: list[float] = []  # seconds between rounds of the other one, after a kill
        self.before: list[float] = []  # and before
        self._workers = workers
        self._sources = sources
        self._draw = random.Random(5)
        self._rounds: dict[int, list[float]] = {0: [], 1: []}

    def note_round(self, worker: int) -> None:
        """One is over."""
        self._rounds[worker].append(time.monotonic())

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
        self.before += _pauses(self._rounds[1 - victim])
        self._rounds[1 - victim].clear()
        streams = {s.number: (s, s.position) for s in all_streams(worker.planner)}
        num_lost, at = worker.num_lost, time.monotonic()
        end(victim)
        waiting = dict(streams)
        noticed = None
        while waiting or noticed is None:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            if noticed is None and (worker.num_lost > num_lost or not worker.is_serving):
                noticed = now - at
                self.noticed.append(noticed)
            for number, (stream, position) in list(waiting.items()):
                if stream.position > position or stream.finish is not None:
                    del waiting[number]
                    self.first_tokens.append(now - at)
            if now - at > PATIENCE_SECONDS:
                raise TimeoutError("a moved stream has stopped")
        self.survivors += _pauses(self._rounds[1 - victim])
        await eventually(lambda: worker.is_serving, PATIENCE_SECONDS)
        self.back.append(time.monotonic() - at)

    def kill(self, victim: int) -> None:
        """As the kernel does."""
        process = self._sources[victim].process_id
        assert process is not None
        os.kill(process, signal.SIGKILL)

    def restart(self, victim: int) -> None:
        """As an operator does."""
        refusal = self._workers.restart(victim)
        assert refusal is None, refusal


async def run(sources: Sequence[Source], num_kills: int, *, restarts: bool) -> bool:
    """All of it; whether all was well."""
    service, chats = service_of(sources), Chats()
    workers = service.workers
    assert workers is not None
    kills = Kills(workers, sources)
    async with loopback(service, [board() for _ in range(NUM_BOARDS)]) as (_, agents):
        for worker in workers.workers:
            _listen(worker, kills)
        asking = [asyncio.create_task(chats.ask(agent, mode)) for agent in agents for mode in MODES]
        for number in range(1, num_kills + 1):
            await kills.one(kills.restart if restarts else kills.kill)
            if number % 25 == 0 or number == num_kills:
                _print(number, chats, kills)
        chats.is_over = True
        await asyncio.gather(*asking)
    for planner in workers.planners:
        planner.blocks.check_integrity()
    _print(num_kills, chats, kills)
    for sentence in chats.wrong:
        print(sentence)
    return not chats.wrong


def _listen(worker: Worker, kills: Kills) -> None:
    deliver = worker.engine._deliver

    def deliver_and_note(results: list[StreamResult]) -> None:
        kills.note_round(worker.number)
        deliver(results)

    worker.engine._deliver = deliver_and_note


def _is_in_round(worker: Worker) -> bool:
    return worker.is_serving and worker.engine.round_started_at is not None


def _pauses(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def _print(number: int, chats: Chats, kills: Kills) -> None:
    print(
        f"{number} times: {chats.num_texts} texts, {chats.num_tokens} tokens, {len(chats.wrong)} "
        f"wrong; rejection p = {chats.p_value():.3f} over "
        f"{chats.places.sum()} tokens; in ms: noticed "
        f"{_told(kills.noticed)}, first token {_told(kills.first_tokens)}, serves again "
        f"{_told(kills.back)}; rounds of the other worker {_told(kills.before)} before, "
        f"{_told(kills.survivors)} after",
        flush=True,
    )


def _told(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "–"
    cuts = statistics.quantiles([1e3 * s for s in seconds], n=100, method="inclusive")
    return f"{cuts[49]:.0f} (p99 {cuts[98]:.0f}, most {1e3 * max(seconds):.0f})"


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


@click.command()
@click.option("--kills", "num_kills", type=click.IntRange(1), default=500, show_default=True)
@click.option("--ray", "on_ray", is_flag=True, help="Workers that Ray has placed.")
@click.option("--restart", "restarts", is_flag=True, help="They are restarted, not killed.")
def main(num_kills: int, on_ray: bool, restarts: bool) -> None:
    """Print what came of it, now and then; exit code 1 if a text is wrong."""
    logging.basicConfig(level=logging.ERROR)  # a loss is no news here
    with _sources(on_ray=on_ray) as sources, short_turns():
        is_well = asyncio.run(run(sources, num_kills, restarts=restarts))
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
