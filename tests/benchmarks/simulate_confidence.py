"""What it is worth in a fleet that boards say how sure they are, with what real drafts got right.

Eight boards replay recorded drafts (devices/scenarios/traces, or traces of `replay_confidence
record`) under `rate`, once saying how sure they are of each token and once not; tokens/s over the
target alone, by what a tested token of all adds to a round (c1 N / c0). Simulated time, no limit.

    python -m tests.benchmarks.simulate_confidence --seeds 5 --traces traces.jsonl --processes 16
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click
import msgspec
import numpy as np

from tests.benchmarks.replay_confidence import Trace
from verifier.rounds.settings import RoundsSection
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection
from verifier.sim.world import World, play

SHIPPED = Path(__file__).parents[2] / "devices" / "scenarios" / "traces"
DRAFTS = ("smollm2-135m-instruct-q2_k", "smollm2-18m")
PRICES = (0.05, 0.1, 0.25, 0.5, 1.0)
NUM_BOARDS = 8
ROUND_TRIP_MS = 10.0
WARM_UP_SECONDS = 10

Traces = Mapping[str, list[tuple[int, int]]]


def scenario_of(
    traces: Traces, price: float, fixed_ms: float, speed: float, limit: float, seed: int
) -> Scenario:
    """Boards of all drafts in turn."""
    of_drafts = {Path(name): list(zip(*tokens, strict=True)) for name, tokens in traces.items()}
    names = list(itertools.islice(itertools.cycle(traces), NUM_BOARDS))
    return Scenario(
        name="confidence",
        run=ScenarioSection(seconds=WARM_UP_SECONDS + 1.5 * fixed_ms, seed=seed),
        target=TargetSection(
            fixed_milliseconds=fixed_ms, token_milliseconds=price * fixed_ms / NUM_BOARDS
        ),
        rounds=RoundsSection(policy="rate", measure_payoff=False, slowdown_limit=limit),
        boards={
            f"board{i}": BoardGroup(
                draft_tokens_per_second=speed,
                round_trip_milliseconds=ROUND_TRIP_MS,
                trace=Path(name),
            )
            for i, name in enumerate(names)
        },
        traces={path: tuple(map(bool, bits)) for path, (bits, _) in of_drafts.items()},
        trace_confidences={path: bytes(sure) for path, (_, sure) in of_drafts.items()},
    )


def speed_of(world: World) -> float:
    """Tokens/s, geometric mean over boards, once estimates are there."""
    tokens = world.record.tokens[WARM_UP_SECONDS:].sum(axis=0)
    return float(np.exp(np.log(tokens).mean()))


def play_one(
    traces: Traces, fixed_ms: float, speed: float, limit: float, what: tuple[float, int]
) -> tuple[float, float]:
    """Over the target alone: of boards that do not tell, and of those that do."""
    price, seed = what
    scenario = scenario_of(traces, price, fixed_ms, speed, limit, seed)
    alone = speed_of(play(scenario, drafts=False))
    silent = {
        name: msgspec.structs.replace(group, tells_confidence=False)
        for name, group in scenario.boards.items()
    }
    untold = speed_of(play(msgspec.structs.replace(scenario, boards=silent)))
    return untold / alone, speed_of(play(scenario)) / alone


def read_traces(file: Path | None) -> Traces:
    """Whether each draft token was right, and how sure its board was, by the draft's name."""
    if file is None:
        return {name: _shipped(name) for name in DRAFTS}
    tokens: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines():
        trace = msgspec.json.decode(line, type=Trace)
        tokens[trace.draft] += zip(map(int, trace.accepted), trace.confidences, strict=True)
    return dict(tokens)


def _shipped(name: str) -> list[tuple[int, int]]:
    content = (SHIPPED / f"{name}.json").read_bytes()
    return msgspec.json.decode(content, type=list[tuple[int, int]])


@click.command()
@click.option("--seeds", "num_seeds", default=3, show_default=True)
@click.option("--traces", "file", type=click.Path(path_type=Path, exists=True))
@click.option("--fixed-ms", default=200.0, show_default=True, help="c0.")
@click.option("--speed", default=60.0, show_default=True, help="Draft tokens/s of a board.")
@click.option("--limit", default=10.0, show_default=True, help="slowdown_limit.")
@click.option("--processes", "num_processes", default=1, show_default=True)
def main(
    num_seeds: int,
    file: Path | None,
    fixed_ms: float,
    speed: float,
    limit: float,
    num_processes: int,
) -> None:
    """Print a row for each price."""
    tasks = list(itertools.product(PRICES, range(1, num_seeds + 1)))
    play_task = partial(play_one, read_traces(file), fixed_ms, speed, limit)
    with ProcessPoolExecutor(num_processes) as processes:
        results = dict(zip(tasks, processes.map(play_task, tasks), strict=True))
    click.echo("| c1·N/c0 | not told | told | gain (least to most) |\n|---|---|---|---|")
    for price in PRICES:
        rows = np.array([results[price, seed] for seed in range(1, num_seeds + 1)])
        untold, told = rows.mean(axis=0)
        gains = 100.0 * (rows[:, 1] / rows[:, 0] - 1.0)
        click.echo(
            f"| {price:g} | {untold:.3f} | {told:.3f} "
            f"| {gains.mean():+.1f} % ({gains.min():+.1f} to {gains.max():+.1f}) |"
        )


if __name__ == "__main__":
    main()
