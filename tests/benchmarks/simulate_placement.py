"""Many workers in simulated time: how fair and how fast placement makes them, next to other ways.

The real planners, policy, estimates and placement, and the boards' own streams; rounds take what a
line says, each worker's on its own clock.

    python -m tests.benchmarks.simulate_placement                 # half an hour of one core
    python -m tests.benchmarks.simulate_placement --processes 64  # two minutes of so many
    python -m tests.benchmarks.simulate_placement --seeds 1 --boards 8 --boards 16  # a look
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from random import Random

import click
import msgspec
import numpy as np

from shared.protocol.messages import Draft, Ready
from shared.speculation.goodput import FloatArray
from tests.support.ends.scenarios import make_scenario
from verifier.placement.offers import offers_to
from verifier.placement.price import cheapest
from verifier.policies import policy_named
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.sim.clock import Clock, HeapClock
from verifier.sim.round_model import RoundModel
from verifier.sim.scenario import BoardGroup, Scenario, TargetSection
from verifier.sim.text import StreamText
from verifier.sim.verifier_end import VerifierEnd
from verifier.sim.world import World, make_planner
from verifier.streams.goodput_of_workers import GoodputAtWorker, GoodputOfWorkers
from verifier.streams.stream import Stream
from verifier.target.round import Round

WARM_UP_PART = 0.25  # of a run, in which nothing is counted
FAST = TargetSection(fixed_milliseconds=6.0, token_milliseconds=0.012, jitter=0.05)
SLOW = TargetSection(fixed_milliseconds=25.0, token_milliseconds=0.05, jitter=0.05)
ACCEPTANCE = (0.5, 0.6, 0.7, 0.8, 0.9)
DRAFT_SPEEDS = (100.0, 200.0, 400.0)

Place = Callable[["Workers", Stream], int]


class Workers:
    """Several ends behind what a world knows as one, with estimates as over many workers."""

    def __init__(self, ends: Sequence[VerifierEnd], place: Place) -> None:
        self.ends = ends
        self.texts: dict[int, StreamText] = {}
        self.draw = Random(1)
        self._place = place
        self._home: dict[int, tuple[VerifierEnd, GoodputAtWorker]] = {}
        for end in ends:
            end.texts = self.texts

    @property
    def planners(self) -> dict[int, RoundPlanner]:
        """By the number of the worker."""
        return {number: end.planner for number, end in enumerate(self.ends)}

    def open(self, stream: Stream, text: StreamText) -> None:
        """A new stream."""
        estimates = stream.device_estimates
        if not isinstance(estimates.goodput, GoodputOfWorkers):
            estimates.goodput = GoodputOfWorkers()
        worker = self._place(self, stream)
        stream.estimates.goodput = goodput = estimates.goodput.at(worker)
        goodput.num_streams += 1
        self._home[stream.number] = self.ends[worker], goodput
        self.ends[worker].open(stream, text)

    def receive(self, stream: Stream, message: Ready | Draft) -> None:
        """A message of a stream's board arrived."""
        if stream.number in self._home:
            self._home[stream.number][0].receive(stream, message)

    def forget(self, results: list[StreamResult]) -> None:
        """Streams that ended."""
        for result in results:
            if result.stream.finish is not None:
                self._home.pop(result.stream.number)[1].num_streams -= 1


def by_price(workers: Workers, stream: Stream) -> int:
    """As the verifier does."""
    offer = cheapest(offers_to(stream, workers.planners), stream.num_tokens)
    assert offer is not None, "there are workers"
    return offer.worker


def to_shortest(workers: Workers, stream: Stream) -> int:
    """Join the shortest queue."""
    counts = [len(p.streams) + len(p.queue) for p in workers.planners.values()]
    return counts.index(min(counts))


def at_random(workers: Workers, stream: Stream) -> int:
    """Any."""
    return workers.draw.randrange(len(workers.ends))


def spread_or_packed(workers: Workers, stream: Stream) -> int:
    """Of `group0` one stream at each worker, of `group1` all at one; as many streams at both."""
    group, _, device = stream.device.partition("-")
    if group == "group0":
        return stream.number % len(workers.ends)
    return int(device) % len(workers.ends)


def play(world: Scenario, targets: Sequence[TargetSection], place: Place) -> World:
    """A scenario over so many workers."""
    clock = HeapClock()

    def make_ends(
        clock: Clock,
        planner: RoundPlanner,
        rounds: RoundModel,
        deliver: Callable[[list[StreamResult]], None],
        report: Callable[[Round, float], None],
    ) -> Workers:
        def deliver_and_forget(results: list[StreamResult]) -> None:
            deliver(results)
            workers.forget(results)

        ends = []
        for number, target in enumerate(targets):
            run = msgspec.structs.replace(world.run, seed=world.run.seed + 1000 * number)
            own = msgspec.structs.replace(world, target=target, run=run)
            planner = make_planner(own, policy_named(own.rounds.policy))
            ends.append(VerifierEnd(clock, planner, RoundModel(own), deliver_and_forget, report))
        workers = Workers(ends, place)
        return workers

    played = World(world, clock, make_end=make_ends)  # type: ignore[arg-type]
    clock.run(world.run.seconds)
    played.end()
    return played


def speeds(played: World, group: str = "") -> FloatArray:
    """Tokens per second of each board while it had a stream open, after the warm-up."""
    first = int(played.record.num_bins * WARM_UP_PART)
    tokens = played.record.tokens[first:].sum(axis=0)
    seconds = played.record.stream_seconds[first:].sum(axis=0)
    is_meant = np.array([board.name.startswith(group) for board in played.boards])
    streams = np.array([board.group.streams for board in played.boards])
    served = is_meant & (tokens > 0) & (seconds > 0)
    found: FloatArray = tokens[served] * streams[served] / seconds[served]
    return found


def mean(values: FloatArray) -> float:
    """The geometric one."""
    return float(np.exp(np.log(values).mean()))


def of_pooled_optimum(policy: str, seed: int, num_boards: int, num_workers: int = 4) -> float:
    """Placed over workers ÷ one pool: all boards in each round, as long as a worker's, one budget.

    The pool is what no GPU is: a token costs it as little as the workers together.
    """
    boards = BoardGroup(
        count=num_boards,
        draft_tokens_per_second=DRAFT_SPEEDS,
        acceptance=ACCEPTANCE,
        round_trip_milliseconds=5.0,
    )
    one = msgspec.structs.replace(SLOW, jitter=0.0)
    world = make_scenario(boards, seconds=30.0, seed=seed, policy=policy, max_round_tokens=512)
    pool = msgspec.structs.replace(one, token_milliseconds=one.token_milliseconds / num_workers)
    rounds = msgspec.structs.replace(world.rounds, max_round_tokens=512 * num_workers)
    pooled = msgspec.structs.replace(world, rounds=rounds)
    placed = mean(speeds(play(world, [one] * num_workers, by_price)))
    return placed / mean(speeds(play(pooled, [pool], by_price)))


def of_packed(policy: str, seed: int) -> float:
    """Devices whose two streams are at two workers ÷ those that have both at one."""
    boards = BoardGroup(
        count=8,
        streams=2,
        draft_tokens_per_second=200.0,
        acceptance=0.8,
        round_trip_milliseconds=5.0,
    )
    world = make_scenario(boards, boards, seconds=60.0, seed=seed, policy=policy)
    played = play(world, [SLOW, SLOW], spread_or_packed)
    return mean(speeds(played, "group0")) / mean(speeds(played, "group1"))


def over_unequal(policy: str, seed: int, num_boards: int) -> tuple[float, float]:
    """Two fast and two slow workers: placement ÷ the shortest queue, and ÷ a random worker."""
    boards = BoardGroup(
        count=num_boards,
        draft_tokens_per_second=DRAFT_SPEEDS,
        acceptance=ACCEPTANCE,
        round_trip_milliseconds=5.0,
        prompt_tokens=100,
        output_tokens=200,
        think_seconds=0.5,
    )
    world = make_scenario(boards, seconds=20.0, seed=seed, policy=policy)
    targets = [FAST, FAST, SLOW, SLOW]
    placed, shortest, random = (
        mean(speeds(play(world, targets, place))) for place in (by_price, to_shortest, at_random)
    )
    return placed / shortest, placed / random


def told(ratios: Sequence[float]) -> str:
    """Median and spread."""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


@click.command()
@click.option("--seeds", "num_seeds", default=4, show_default=True, help="Of each cell.")
@click.option("--boards", multiple=True, default=(8, 16, 32, 64, 128), show_default=True, type=int)
@click.option("--policy", default="goodspeed", show_default=True)
@click.option("--processes", default=1, show_default=True, help="That play side by side.")
def main(num_seeds: int, boards: Sequence[int], policy: str, processes: int) -> None:
    """Print all three; a cell is played once for each seed."""
    seeds = range(1, num_seeds + 1)
    print(f"policy {policy}, {num_seeds} seeds: median (least to most)", flush=True)
    with ProcessPoolExecutor(processes) as pool:
        # The longest first: all of them end about together.
        unequal, pooled = {}, {}
        for count in sorted(boards, reverse=True):
            unequal[count] = [pool.submit(over_unequal, policy, seed, count) for seed in seeds]
            pooled[count] = [pool.submit(of_pooled_optimum, policy, seed, count) for seed in seeds]
        packed = [pool.submit(of_packed, policy, seed) for seed in seeds]
        for count in sorted(boards):
            _print(f"4 workers, {count} boards, of the pooled optimum", pooled[count])
        _print("2 workers, 16 boards of 2 streams, spread ÷ packed", packed)
        for count in sorted(boards):
            by_shortest, by_random = zip(*[each.result() for each in unequal[count]], strict=True)
            print(
                f"2 fast + 2 slow, {count} boards: {told(by_shortest)} of the shortest queue, "
                f"{told(by_random)} of random",
                flush=True,
            )


def _print(name: str, ratios: Sequence[Future[float]]) -> None:
    print(f"{name}: {told([ratio.result() for ratio in ratios])}", flush=True)


if __name__ == "__main__":
    main()
