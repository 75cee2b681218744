"""The policies over a grid of fleets, in simulated time, each against the target alone.

A line for each cell, then how `rate` fares against the oracle and against the best of all published
policies, and whom the limit protects. Fleets are the same for all arms, and stratified: over the
fleets of a cell every speed and round trip comes equally often, and acceptance rates lie evenly in
0.4 to 0.95. Values are geometric means over boards of tokens/s over what the target alone gives
them; in brackets the worst board.

    python -m tests.benchmarks.simulate_grid --processes 64 --played grid.jsonl
    python -m tests.benchmarks.simulate_grid --sizes 512 --fixed 5,60 --boards mixed,orin

With `--played` each fleet is kept as it ends, and what a file holds is not played again: a run that
was stopped, or whose `--seconds` were over, goes on the next time.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from random import Random

import click
import msgspec
import numpy as np

from shared.protocol.messages import AcceptanceMode
from shared.speculation.goodput import FloatArray
from tests.benchmarks.grid_results import Results, Task, tasks_of
from tests.benchmarks.grid_tables import (
    ALONE,
    ORACLE,
    RATE,
    RATE_LIMITED,
    Cell,
    Played,
    geometric_mean,
    print_tables,
)
from verifier.policies import DraftPolicy, FixedPolicy, PolicyName, RatePolicy
from verifier.rounds.settings import RoundsSection
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection
from verifier.sim.world import World, play

SPEEDS = {"pi": (8.0, 20.0, 35.0), "mixed": (8.0, 20.0, 35.0, 80.0, 165.0)}
SPEEDS["orin"] = (80.0, 120.0, 165.0)
ROUND_TRIPS_MS = (5.0, 20.0, 50.0, 100.0, 200.0)
ACCEPTANCE = (0.4, 0.95)
LIMIT, NO_LIMIT = 0.05, 10.0
ORACLE_SCALES = (0.7, 1.0, 1.4)
BARRIER_BUDGETS = (1, 4)  # tokens for each board
STATIC_LENGTH = 4  # DSD's static window
# The more boards, the less chance there is in a round.
NUM_FLEETS = {1: 15, 8: 4, 64: 1, 512: 1}
SECONDS = 30.0
MOST_ROUNDS = {1: 1200, 8: 1200, 64: 1000, 512: 250}
WINDOW_SECONDS = 10  # over which no board may lose much, either


Arm = Callable[[Scenario], Played]


def seconds_of(cell: Cell) -> float:
    """For how long its fleets are played."""
    return min(SECONDS, MOST_ROUNDS[cell.num_boards] * cell.alone_seconds)


def num_rounds_of(cell: Cell) -> float:
    """Of the target alone in that time; the dearest of a size are played first."""
    return seconds_of(cell) / cell.alone_seconds


def fleets_of(cell: Cell) -> Iterator[tuple[BoardGroup, ...]]:
    """The fleets of a cell."""
    num_fleets = NUM_FLEETS[cell.num_boards]
    num_boards = num_fleets * cell.num_boards
    random = Random(f"{cell.boards}-{cell.num_boards}")

    def dealt(values: Sequence[float]) -> list[float]:
        cards = list(itertools.islice(itertools.cycle(values), num_boards))
        random.shuffle(cards)
        return cards

    low, high = ACCEPTANCE
    rates = [low + (high - low) * (i + 0.5) / num_boards for i in range(num_boards)]
    columns = zip(dealt(SPEEDS[cell.boards]), dealt(ROUND_TRIPS_MS), dealt(rates), strict=True)
    groups = [
        BoardGroup(draft_tokens_per_second=speed, round_trip_milliseconds=trip, acceptance=rate)
        for speed, trip, rate in columns
    ]
    for i in range(num_fleets):
        yield tuple(groups[i * cell.num_boards : (i + 1) * cell.num_boards])


def scenario_of(cell: Cell, fleet: tuple[BoardGroup, ...], seed: int) -> Scenario:
    """A fleet at a target."""
    return Scenario(
        name="grid",
        run=ScenarioSection(seconds=seconds_of(cell), seed=seed),
        target=TargetSection(
            fixed_milliseconds=cell.fixed_ms, token_milliseconds=cell.fixed_ms / cell.ratio
        ),
        # A first measurement of what drafts pay would be a large part of so short a run.
        rounds=RoundsSection(
            max_round_tokens=max(1024, 20 * cell.num_boards), measure_payoff=False
        ),
        boards={f"board{i}": group for i, group in enumerate(fleet)},
    )


def played(
    scenario: Scenario,
    *,
    own: DraftPolicy | None = None,
    knows_acceptance: bool = False,
    mode: AcceptanceMode = "coupled",
    **rounds: object,
) -> Played:
    """A scenario with other settings of rounds, or a policy of one's `own`."""
    changed = msgspec.structs.replace(
        scenario,
        rounds=msgspec.structs.replace(scenario.rounds, **rounds),
        boards={
            name: msgspec.structs.replace(group, mode=mode)
            for name, group in scenario.boards.items()
        },
    )
    return over_formula(play(changed, policy=own, knows_acceptance=knows_acceptance))


def over_formula(world: World) -> Played:
    """What each board got over a token a round of the target alone.

    A window may end within a round, so a token more counts there. A run does as well, and its
    first round may be one of few: what it gives by the target alone is played (`target_alone`).
    """
    target, record, num_boards = world.scenario.target, world.record, len(world.boards)
    alone = 1e3 / (target.fixed_milliseconds + target.token_milliseconds * num_boards)
    speeds = record.tokens.sum(axis=0) / record.stream_seconds.sum(axis=0)
    num_bins = min(WINDOW_SECONDS, record.num_bins)
    windows = np.lib.stride_tricks.sliding_window_view(record.tokens, num_bins, axis=0)
    seconds = min(num_bins * record.bin_seconds, world.scenario.run.seconds)
    least: FloatArray = (windows.sum(axis=-1) + 1.0).min(axis=0) / seconds
    return Played((speeds / alone).tolist(), (least / alone).tolist())


def with_policy(policy: PolicyName, limit: float, **rounds: object) -> Arm:
    return lambda scenario: played(scenario, policy=policy, slowdown_limit=limit, **rounds)


def published(policy: PolicyName) -> Arm:
    """Rounds that wait for the slowest board; the best of several budgets."""
    return lambda scenario: best_of(
        played(
            scenario,
            policy=policy,
            barrier=True,
            guard=False,
            budget_tokens=tokens * scenario.num_boards,
        )
        for tokens in BARRIER_BUDGETS
    )


def waiting(policy: PolicyName | None) -> Arm:
    """DSD's streams, each of which waits for its own draft, of its static length or as learnt."""
    own = FixedPolicy(STATIC_LENGTH) if policy is None else None
    return lambda scenario: played(
        scenario,
        own=own,
        mode="rejection",
        guard=False,
        slowdown_limit=NO_LIMIT,
        policy=policy or "fixed",
    )


def in_our_rounds(scenario: Scenario) -> Played:
    """The published rule and budget, in rounds that never wait, without guard or limit."""
    budget = BARRIER_BUDGETS[-1] * scenario.num_boards
    return played(scenario, policy="goodspeed", guard=False, budget_tokens=budget)


def oracle(scenario: Scenario) -> Played:
    """Known acceptance, deep windows, no limit, the best of several prices."""
    return best_of(
        played(
            scenario,
            own=RatePolicy(price_scale=scale, smallest_survival=0.005),
            knows_acceptance=True,
            slowdown_limit=NO_LIMIT,
        )
        for scale in ORACLE_SCALES
    )


def best_of(candidates: Iterator[Played]) -> Played:
    return max(candidates, key=lambda one: geometric_mean(one.ratios))


def target_alone(scenario: Scenario) -> Played:
    return over_formula(play(scenario, drafts=False))


ARMS: dict[str, Arm] = {
    ALONE: target_alone,
    "GoodSpeed, as published": published("goodspeed"),
    "Fixed-S, as published": published("fixed"),
    "DSD static 4, waiting": waiting(None),
    "AWC, waiting": waiting("awc"),
    "GoodSpeed's rule, 4N": in_our_rounds,
    "AWC": with_policy("awc", NO_LIMIT),
    "threshold": with_policy("threshold", NO_LIMIT),
    "goodspeed, 5 %": with_policy("goodspeed", LIMIT),
    "goodspeed, no limit": with_policy("goodspeed", NO_LIMIT),
    RATE_LIMITED: with_policy("rate", LIMIT),
    RATE: with_policy("rate", NO_LIMIT),
    ORACLE: oracle,
}


def play_task(task: Task) -> Played:
    fleet = list(fleets_of(task.cell))[task.fleet]
    return ARMS[task.arm](scenario_of(task.cell, fleet, task.fleet + 1))


def play_all(
    tasks: Sequence[Task], results: Results, num_processes: int, until: float | None
) -> None:
    """Play them in turn; none begins after `until`, by time.monotonic()."""
    running: dict[Future[Played], Task] = {}

    def note(done: set[Future[Played]]) -> None:
        for future in done:
            results.note(running.pop(future), future.result())

    with ProcessPoolExecutor(num_processes) as processes:
        for task in tasks:
            if len(running) >= num_processes:
                note(wait(running, return_when=FIRST_COMPLETED).done)
            if until is not None and time.monotonic() >= until:
                break
            running[processes.submit(play_task, task)] = task
        note(wait(running).done)


@click.command()
@click.option("--sizes", default="1,8,64", show_default=True, help="Boards in a fleet.")
@click.option("--fixed", default="25,60,120", show_default=True, help="c0 in milliseconds.")
@click.option("--ratios", "of_token", default="250,1000", show_default=True, help="c0 / c1.")
@click.option("--boards", default="pi,mixed,orin", show_default=True)
@click.option("--arms", default=",".join(str(i) for i in range(len(ARMS) - 1)), show_default=True)
@click.option("--processes", "num_processes", default=1, show_default=True)
@click.option("--seconds", type=float, help="No fleet begins after so long.")
@click.option("--played", type=click.Path(path_type=Path), help="Keep all boards; go on.")
def main(
    sizes: str,
    fixed: str,
    of_token: str,
    boards: str,
    arms: str,
    num_processes: int,
    seconds: float | None,
    played: Path | None,
) -> None:
    """Play the grid, size after size."""
    started = time.monotonic()
    others = [arm for arm in ARMS if arm != ALONE]
    chosen = [ALONE, *[others[int(number)] for number in arms.split(",")]]
    places = itertools.product(
        sizes.split(","), fixed.split(","), of_token.split(","), boards.split(",")
    )
    cells = [Cell(float(ms), float(ratio), kind, int(size)) for size, ms, ratio, kind in places]
    with nullcontext() if played is None else played.open("a+b") as file:
        results = Results(file, NUM_FLEETS)
        tasks = [task for task in tasks_of(cells, chosen, NUM_FLEETS) if not results.holds(task)]
        in_turn = [int(size) for size in sizes.split(",")]
        # Cell after cell, so that few are half played when the time is over.
        tasks.sort(
            key=lambda task: (
                in_turn.index(task.cell.num_boards),
                -num_rounds_of(task.cell),
                cells.index(task.cell),
            )
        )
        play_all(tasks, results, num_processes, None if seconds is None else started + seconds)
        found = results.found(cells, chosen)
    for size in in_turn:
        of_size = {cell: of for cell, of in found.items() if cell.num_boards == size}
        print_tables(of_size, chosen[1:])
    click.echo(f"{len(found)} of {len(cells)} cells, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
