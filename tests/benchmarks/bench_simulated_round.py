"""What a simulated stream-round costs in the world of messages, both ends in: processor time.

Everything counts: planning, settling, the boards' own drafting, messages on their links. So the
more tokens boards draft, the more it is; `tested` says how many of them a stream-round held.

    python -m tests.benchmarks.bench_simulated_round --boards 64 --boards 512
"""

from __future__ import annotations

import statistics
import time

import click

from verifier.policies import PolicyName
from verifier.rounds.settings import RoundsSection
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection
from verifier.sim.world import play

# Of the grid's Orin boards (simulate_grid), rounds of 60 ms.
SPEEDS, ROUND_TRIPS_MS = (80.0, 120.0, 165.0), (5.0, 20.0, 50.0, 100.0, 200.0)
STREAM_ROUNDS = 20_000


def scenario_of(count: int, policy: PolicyName) -> Scenario:
    """A fleet for so many rounds that it is measured well."""
    boards = BoardGroup(
        count=count,
        acceptance=(0.5, 0.6, 0.7, 0.8, 0.9),
        draft_tokens_per_second=SPEEDS,
        round_trip_milliseconds=ROUND_TRIPS_MS,
    )
    return Scenario(
        name="cost",
        run=ScenarioSection(seconds=0.07 * max(STREAM_ROUNDS / count, 20.0)),
        target=TargetSection(fixed_milliseconds=60.0, token_milliseconds=0.06),
        rounds=RoundsSection(
            policy=policy, measure_payoff=False, max_round_tokens=max(1024, 20 * count)
        ),
        boards={"orin": boards},
    )


def cost_of(scenario: Scenario) -> tuple[float, float]:
    """Microseconds of a stream-round, and draft tokens that it tested."""
    started_at = time.process_time()
    record = play(scenario).record
    seconds = time.process_time() - started_at
    stream_rounds = float(record.stream_rounds.sum())
    return 1e6 * seconds / stream_rounds, float(record.tested.sum()) / stream_rounds


@click.command()
@click.option("--boards", "counts", type=int, multiple=True, default=(8, 64, 512))
@click.option("--policy", "policies", multiple=True, default=("rate",), show_default=True)
@click.option("--repeats", default=3, show_default=True)
def main(counts: tuple[int, ...], policies: tuple[PolicyName, ...], repeats: int) -> None:
    """Print a row for each fleet and policy."""
    click.echo(
        "| boards | policy | µs a stream-round (least to most) | tested |\n|---|---|---|---|"
    )
    for count in counts:
        for policy in policies:
            runs = [cost_of(scenario_of(count, policy)) for _ in range(repeats)]
            costs = [cost for cost, _ in runs]
            spread = f"{min(costs):.0f} to {max(costs):.0f}"
            middle = statistics.median(costs)
            click.echo(f"| {count} | {policy} | {middle:.0f} ({spread}) | {runs[0][1]:.2f} |")


if __name__ == "__main__":
    main()
