"""The policies over a grid of fleets, in simulated time, each against the target alone.

A line for each cell, then how `rate` fares against the oracle and against the best of all published
policies, and whom the limit protects. Fleets are the same for all arms, and stratified: over the
fleets of a cell every speed and round trip comes equally often, and acceptance rates lie evenly in
0.4 to 0.95. Values are geometric means over boards of tokens/s over what the target alone gives
them; in brackets the worst board.

    python -m tests.benchmarks.simulate_grid --processes 64 --json grid.json
    python -m tests.benchmarks.simulate_grid --sizes 512 --fixed 5,60 --boards mixed,orin
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import NamedTuple

import click
import msgspec
import numpy as np

from shared.protocol.messages import AcceptanceMode
from shared.speculation.fairness import jain_index
from shared.speculation.goodput import FloatArray
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


class Cell(NamedTuple):
    """One place of the grid."""

    fixed_ms: float
    ratio: float  # c0 over c1
    boards: str
    num_boards: int

    @property
    def alone_seconds(self) -> float:
        """A round of the target alone."""
        fixed = 1e-3 * self.fixed_ms
        return fixed + self.num_boards * fixed / self.ratio

    @property
    def seconds(self) -> float:
        return min(SECONDS, MOST_ROUNDS[self.num_boards] * self.alone_seconds)


class Played(NamedTuple):
    """All boards of a fleet, over the target alone."""

    ratios: list[float]  # over the whole run
    least: list[float]  # over the worst 10 s, or over the run where that is shorter


Arm = Callable[[Scenario], Played]


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
        run=ScenarioSection(seconds=cell.seconds, seed=seed),
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
    return over_alone(play(changed, policy=own, knows_acceptance=knows_acceptance))


def over_alone(world: World) -> Played:
    """What each board got; a window may end within a round, so a token more counts there."""
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


ORACLE, RATE, RATE_LIMITED = "oracle", "rate, no limit", "rate, 5 %"
ARMS: dict[str, Arm] = {
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


class Task(NamedTuple):
    """What one process plays at a time."""

    cell: Cell
    arm: str
    fleet: int

    @property
    def cost(self) -> float:
        """The dearest begin first."""
        return self.cell.num_boards * self.cell.seconds / self.cell.alone_seconds


def play_task(task: Task) -> Played:
    fleet = list(fleets_of(task.cell))[task.fleet]
    return ARMS[task.arm](scenario_of(task.cell, fleet, task.fleet + 1))


Found = Mapping[Cell, Mapping[str, Played]]


def play_all(tasks: Sequence[Task], num_processes: int) -> Found:
    """Of each cell and arm all boards of all fleets."""
    found: dict[Cell, dict[str, Played]] = defaultdict(lambda: defaultdict(lambda: Played([], [])))
    dearest_first = sorted(tasks, key=lambda task: -task.cost)
    with ProcessPoolExecutor(num_processes) as processes:
        results = dict(zip(dearest_first, processes.map(play_task, dearest_first), strict=True))
    for task in tasks:
        so_far = found[task.cell][task.arm]
        so_far.ratios.extend(results[task].ratios)
        so_far.least.extend(results[task].least)
    return found


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(np.maximum(values, 1e-9)))))


def print_table(found: Found, arms: Sequence[str]) -> None:
    click.echo(f"| c0 ms | c0/c1 | boards | devices | {' | '.join(arms)} |")
    click.echo(f"|{'---|' * (4 + len(arms))}")
    for cell, of_arms in found.items():
        cells = [
            f"{geometric_mean(of_arms[arm].ratios):.3f} ({min(of_arms[arm].ratios):.2f})"
            for arm in arms
        ]
        place = f"{cell.fixed_ms:g} | {cell.ratio:g} | {cell.boards} | {cell.num_boards}"
        click.echo(f"| {place} | {' | '.join(cells)} |")


def print_sums(found: Found, arms: Sequence[str]) -> None:
    """Over all cells: means, parts of the oracle, and whom it went worst for."""
    means = {
        arm: np.array([geometric_mean(of_arms[arm].ratios) for of_arms in found.values()])
        for arm in arms
    }
    click.echo(
        f"\n| {len(found)} cells | mean | of the oracle (worst) | worst board "
        "| its worst 10 s | Jain's index |\n|---|---|---|---|---|---|"
    )
    for arm in arms:
        parts = means[arm] / means[ORACLE] if ORACLE in arms else np.array([np.nan])
        all_played = [of_arms[arm] for of_arms in found.values()]
        jain = np.mean([jain_index(one.ratios) for one in all_played])
        worst = min(min(one.ratios) for one in all_played)
        least = min(min(one.least) for one in all_played)
        click.echo(
            f"| {arm} | {geometric_mean(means[arm]):.3f} | {parts.mean():.3f} ({parts.min():.3f}) "
            f"| {worst:.3f} | {least:.3f} | {jain:.3f} |"
        )
    rivals = [arm for arm in arms if arm not in (RATE, RATE_LIMITED, ORACLE)]
    if rivals and RATE in arms:
        best = np.maximum(np.max([means[arm] for arm in rivals], axis=0), 1.0)
        over = means[RATE] / best
        click.echo(
            f"{RATE} over the best of the target alone and all others but the oracle, in each "
            f"cell: {geometric_mean(over):.3f}, worst {over.min():.3f}"
        )


@click.command()
@click.option("--sizes", default="1,8,64", show_default=True, help="Boards in a fleet.")
@click.option("--fixed", default="25,60,120", show_default=True, help="c0 in milliseconds.")
@click.option("--ratios", "of_token", default="250,1000", show_default=True, help="c0 / c1.")
@click.option("--boards", default="pi,mixed,orin", show_default=True)
@click.option("--arms", default=",".join(str(i) for i in range(len(ARMS))), show_default=True)
@click.option("--processes", "num_processes", default=1, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Keep all boards.")
def main(
    sizes: str,
    fixed: str,
    of_token: str,
    boards: str,
    arms: str,
    num_processes: int,
    json_file: Path | None,
) -> None:
    """Play the grid."""
    chosen = [list(ARMS)[int(number)] for number in arms.split(",")]
    places = itertools.product(
        sizes.split(","), fixed.split(","), of_token.split(","), boards.split(",")
    )
    cells = [Cell(float(ms), float(ratio), kind, int(size)) for size, ms, ratio, kind in places]
    started = time.perf_counter()
    found = play_all(
        [
            Task(cell, arm, fleet)
            for cell, arm in itertools.product(cells, chosen)
            for fleet in range(NUM_FLEETS[cell.num_boards])
        ],
        num_processes,
    )
    if json_file is not None:
        rows = [(cell, dict(of_arms)) for cell, of_arms in found.items()]
        json_file.write_bytes(msgspec.json.encode(rows))
    print_table(found, chosen)
    print_sums(found, chosen)
    click.echo(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
