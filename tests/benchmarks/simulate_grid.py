"""The policies over a grid of fleets, in simulated time, each against the target alone.

`python -m tests.benchmarks.simulate_grid` prints a line for each cell as it is done, then means.
Fleets are the same for all arms, and stratified: over the fleets of a cell every speed and round
trip comes equally often, and acceptance rates lie evenly in 0.4 to 0.95. Values are geometric means
over boards of tokens/s over what the target alone gives them; in brackets the worst board.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

import click
import msgspec
import numpy as np

from verifier.policies import PolicyName, RatePolicy
from verifier.rounds.settings import RoundsSection
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection
from verifier.sim.world import play

SPEEDS = {"pi": (8.0, 20.0, 35.0), "mixed": (8.0, 20.0, 35.0, 80.0, 165.0)}
SPEEDS["orin"] = (80.0, 120.0, 165.0)
ROUND_TRIPS_MS = (5.0, 20.0, 50.0, 100.0, 200.0)
ACCEPTANCE = (0.4, 0.95)
LIMIT, NO_LIMIT = 0.05, 10.0
ORACLE_SCALES = (0.7, 1.0, 1.4)
BARRIER_BUDGETS = (1, 4)  # tokens for each board
# The more boards, the less chance there is in a round.
NUM_FLEETS = {1: 15, 8: 4, 64: 1, 512: 1}
NUM_ROUNDS = {1: 300, 8: 250, 64: 200, 512: 100}


class Cell(NamedTuple):
    """One place of the grid."""

    fixed_ms: float
    ratio: float  # c0 over c1
    boards: str
    num_boards: int

    @property
    def seconds(self) -> float:
        fixed = 1e-3 * self.fixed_ms
        return NUM_ROUNDS[self.num_boards] * (fixed + self.num_boards * fixed / self.ratio)


Ratios = list[float]  # of all boards, over the target alone
Arm = Callable[[Scenario], Ratios]


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


def ratios(scenario: Scenario, oracle: RatePolicy | None = None, **rounds: object) -> Ratios:
    """Of all boards of a scenario with other settings of rounds."""
    section = msgspec.structs.replace(scenario.rounds, **rounds)
    changed = msgspec.structs.replace(scenario, rounds=section)
    world = play(changed, policy=oracle, knows_acceptance=oracle is not None)
    fixed, token = scenario.target.fixed_milliseconds, scenario.target.token_milliseconds
    alone = 1e3 / (fixed + token * scenario.num_boards)
    speeds = world.record.tokens.sum(axis=0) / world.record.stream_seconds.sum(axis=0)
    return [float(speed) / alone for speed in speeds]


def with_policy(policy: PolicyName, limit: float) -> Arm:
    return lambda scenario: ratios(scenario, policy=policy, slowdown_limit=limit)


def published(scenario: Scenario) -> Ratios:
    """GoodSpeed's rounds: all wait for the slowest; the best of several budgets."""
    return best_of(
        ratios(
            scenario,
            policy="goodspeed",
            barrier=True,
            guard=False,
            budget_tokens=tokens * scenario.num_boards,
        )
        for tokens in BARRIER_BUDGETS
    )


def oracle(scenario: Scenario) -> Ratios:
    """Known acceptance, deep windows, no limit, the best of several prices."""
    return best_of(
        ratios(
            scenario,
            RatePolicy(price_scale=scale, smallest_survival=0.005),
            slowdown_limit=NO_LIMIT,
        )
        for scale in ORACLE_SCALES
    )


def best_of(candidates: Iterator[Ratios]) -> Ratios:
    return max(candidates, key=lambda values: float(np.log(np.maximum(values, 1e-9)).sum()))


ARMS: dict[str, Arm] = {
    "GoodSpeed, as published": published,
    "goodspeed, 5 %": with_policy("goodspeed", LIMIT),
    "goodspeed, no limit": with_policy("goodspeed", NO_LIMIT),
    "rate, 5 %": with_policy("rate", LIMIT),
    "rate, no limit": with_policy("rate", NO_LIMIT),
    "oracle": oracle,
}


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(np.maximum(values, 1e-9)))))


def print_row(cell: Cell, found: dict[str, Ratios]) -> None:
    values = [f"{geometric_mean(found[arm]):.3f} ({min(found[arm]):.2f})" for arm in found]
    place = f"{cell.fixed_ms:g} | {cell.ratio:g} | {cell.boards} | {cell.num_boards}"
    click.echo(f"| {place} | {' | '.join(values)} |")


@click.command()
@click.option("--sizes", default="1,8,64", show_default=True, help="Boards in a fleet.")
@click.option("--fixed", default="25,60,120", show_default=True, help="c0 in milliseconds.")
@click.option("--ratios", "of_token", default="250,1000", show_default=True, help="c0 / c1.")
@click.option("--boards", default="pi,mixed,orin", show_default=True)
@click.option("--arms", default=",".join(str(i) for i in range(len(ARMS))), show_default=True)
def main(sizes: str, fixed: str, of_token: str, boards: str, arms: str) -> None:
    """Play the grid."""
    chosen = [list(ARMS)[int(number)] for number in arms.split(",")]
    click.echo(f"| c0 ms | c0/c1 | boards | devices | {' | '.join(chosen)} |")
    click.echo(f"|{'---|' * (4 + len(chosen))}")
    cells = itertools.product(sizes.split(","), fixed.split(","), of_token.split(","), [boards])
    logs: dict[str, list[float]] = {arm: [] for arm in chosen}
    started = time.perf_counter()
    for size, fixed_ms, ratio, kinds in cells:
        for kind in kinds.split(","):
            cell = Cell(float(fixed_ms), float(ratio), kind, int(size))
            found: dict[str, Ratios] = {arm: [] for arm in chosen}
            for seed, fleet in enumerate(fleets_of(cell), start=1):
                scenario = scenario_of(cell, fleet, seed)
                for arm in chosen:
                    found[arm] += ARMS[arm](scenario)
            print_row(cell, found)
            for arm in chosen:
                logs[arm].append(geometric_mean(found[arm]))
    click.echo(
        f"| mean of {len(logs[chosen[0]])} cells | | | | "
        + " | ".join(f"{geometric_mean(logs[arm]):.3f}" for arm in chosen)
        + " |"
    )
    if "oracle" in chosen:
        best = np.array(logs["oracle"])
        for arm in chosen:
            parts = np.array(logs[arm]) / best
            click.echo(f"{arm}: {parts.mean():.3f} of the oracle, worst cell {parts.min():.3f}")
    click.echo(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
