"""Fused or distributed, over round trips, by the verifier's own planner in simulated time.

For each round trip: tokens/s over those of the target alone, of boards that always draft four
tokens (`fixed`, without guard or measurement: DSD's distributed mode), and of what chooses itself:
`awc` and our own policies. Once with streams that wait for their draft (`rejection`) and once with
streams that never do (`coupled`). Regret is against the better of always and never, on the same
seeds; its mean over seeds, and the worst of them.

    python -m tests.benchmarks.simulate_crossover --seeds 10
"""

from __future__ import annotations

import math

import click
import msgspec
import numpy as np

from shared.protocol.messages import AcceptanceMode
from shared.speculation.goodput import FloatArray
from verifier.policies import FixedPolicy, PolicyName
from verifier.rounds.settings import RoundsSection
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection
from verifier.sim.world import World, play

ROUND_TRIPS = (5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0)  # ms
CHOOSERS: tuple[PolicyName, ...] = ("awc", "goodspeed", "rate")
WARM_UP_BINS = 5
WINDOW = 4


def scenario_of(round_trip: float, mode: AcceptanceMode, seed: int, count: int) -> Scenario:
    """GSM8K's drafts and speeds at one target of DSD's cells, endless streams."""
    boards = BoardGroup(
        count=count,
        acceptance=(0.6, 0.7, 0.8, 0.9),
        draft_tokens_per_second=(25.0, 40.0, 60.0),
        round_trip_milliseconds=round_trip,
        mode=mode,
    )
    return Scenario(
        name="crossover",
        run=ScenarioSection(seconds=20.0, seed=seed),
        target=TargetSection(fixed_milliseconds=40.0, token_milliseconds=0.16, jitter=0.02),
        rounds=RoundsSection(measure_payoff=False, slowdown_limit=10.0),
        boards={"board": boards},
    )


def speed(world: World) -> float:
    """Tokens/s of a board, geometric mean, once estimates are there."""
    record = world.record
    tokens: FloatArray = record.tokens[WARM_UP_BINS:].sum(axis=0)
    seconds: FloatArray = record.stream_seconds[WARM_UP_BINS:].sum(axis=0)
    return math.exp(float(np.log(np.maximum(tokens, 1.0) / seconds).mean()))


def chosen_by(scenario: Scenario, policy: PolicyName) -> Scenario:
    """The same with a policy that decides whether to draft."""
    rounds = msgspec.structs.replace(scenario.rounds, policy=policy)
    return msgspec.structs.replace(scenario, rounds=rounds)


def row(round_trip: float, mode: AcceptanceMode, num_seeds: int, count: int) -> list[list[float]]:
    """Over the target alone, by seed: always, then each of `CHOOSERS`."""
    rows = []
    for seed in range(1, num_seeds + 1):
        scenario = scenario_of(round_trip, mode, seed, count)
        alone = speed(play(scenario, drafts=False))
        unguarded = msgspec.structs.replace(scenario.rounds, guard=False)
        always = msgspec.structs.replace(scenario, rounds=unguarded)
        worlds = [
            play(always, policy=FixedPolicy(WINDOW)),
            *[play(chosen_by(scenario, policy)) for policy in CHOOSERS],
        ]
        rows.append([speed(world) / alone for world in worlds])
    return rows


@click.command()
@click.option("--seeds", "num_seeds", default=10)
@click.option("--boards", "count", default=16)
@click.option("--mode", "modes", multiple=True, default=("rejection", "coupled"))
@click.option("--round-trip", "round_trips", type=float, multiple=True, default=ROUND_TRIPS)
def main(
    num_seeds: int, count: int, modes: tuple[AcceptanceMode, ...], round_trips: tuple[float, ...]
) -> None:
    """Print a row for each round trip."""
    print(f"| mode | round trip ms | always {WINDOW} | {' | '.join(CHOOSERS)} | regret, worst |")
    print("|---|---|---|" + "---|" * (len(CHOOSERS) + 1))
    for mode in modes:
        for round_trip in round_trips:
            figures = np.array(row(round_trip, mode, num_seeds, count))
            better = np.maximum(figures[:, 0], 1.0)
            regrets = 1.0 - figures[:, 1:] / better[:, None]
            cells = [
                f"{column.mean():.3f} ({column.min():.3f} to {column.max():.3f})"
                for column in figures.T
            ]
            told = ", ".join(
                f"{name} {100 * regret.mean():+.1f} % ({100 * regret.max():+.1f})"
                for name, regret in zip(CHOOSERS, regrets.T, strict=True)
            )
            print(f"| {mode} | {round_trip:g} | {' | '.join(cells)} | {told} |", flush=True)


if __name__ == "__main__":
    main()
