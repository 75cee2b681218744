"""What changes in a fleet, and how soon each policy has followed: steps, newcomers, a stall.

Sixteen boards at rounds of 60 ms, 250 times what a token takes, in simulated time:

- *step*: at half time the boards of 0.9 become 0.5 and those of 0.5 become 0.9. Seconds until the
  fleet (geometric mean of tokens/s over boards, averaged over seeds and five seconds) is within
  2 % of its new level, and the worst board in any 10 s, over the target alone.
- *join*: eight are there from the start, eight join at a third and leave at two thirds; a board of
  the first stands still for ten seconds. The others over the target alone, before, while and after.
- *newcomers*: 24 equal boards of 0.9, and 72 that join them after ten seconds. From ten seconds
  later on, those who were there and those who came, over the target alone.

    python -m tests.benchmarks.simulate_dynamics --seeds 12 --processes 16
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import click
import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray
from verifier.policies import PolicyName
from verifier.rounds.settings import RoundsSection
from verifier.sim.scenario import (
    BoardGroup,
    Change,
    Scenario,
    ScenarioSection,
    Stall,
    TargetSection,
)
from verifier.sim.world import play

SECONDS = 120.0
GOOD, BAD = 0.9, 0.5
FLEET = {
    "draft_tokens_per_second": (35.0, 80.0, 120.0, 165.0),
    "round_trip_milliseconds": (5.0, 20.0, 50.0, 100.0),
}
STALL = Stall(20.0, 30.0)
ARMS: tuple[tuple[PolicyName, float], ...] = (
    ("goodspeed", 0.05),
    ("goodspeed", 10.0),
    ("rate", 0.05),
    ("rate", 10.0),
)
SMOOTHED_SECONDS = 5
NEAR = 0.02  # of the new level
WINDOW_SECONDS = 10
NEWCOMERS_AT = 10.0

Values = list[list[float]]  # by board, by second: tokens/s over the target alone


def step(seed: int) -> Scenario:
    falls = BoardGroup(
        count=8,
        acceptance=GOOD,
        changes=(Change(SECONDS / 2, BAD),),
        **FLEET,  # type: ignore[arg-type]
    )
    rises = BoardGroup(
        count=8,
        acceptance=BAD,
        changes=(Change(SECONDS / 2, GOOD),),
        **FLEET,  # type: ignore[arg-type]
    )
    return scenario_of(seed, SECONDS, falls, rises)


def join(seed: int) -> Scenario:
    rates = {"acceptance": (0.5, 0.6, 0.7, 0.8, 0.9)}
    first = BoardGroup(count=7, **FLEET, **rates)  # type: ignore[arg-type]
    stalled = BoardGroup(draft_tokens_per_second=120.0, acceptance=0.8, stalls=(STALL,))
    others = BoardGroup(
        count=8,
        joins_at_seconds=SECONDS / 3,
        leaves_at_seconds=2 * SECONDS / 3,
        **FLEET,  # type: ignore[arg-type]
        **rates,
    )
    return scenario_of(seed, SECONDS, first, stalled, others)


def newcomers(seed: int) -> Scenario:
    known = BoardGroup(count=24, acceptance=GOOD, draft_tokens_per_second=120.0)
    new = msgspec.structs.replace(known, count=72, joins_at_seconds=NEWCOMERS_AT)
    return scenario_of(seed, 40.0, known, new, token_milliseconds=1.0)


def scenario_of(
    seed: int, seconds: float, *groups: BoardGroup, token_milliseconds: float = 0.24
) -> Scenario:
    """These boards at a target."""
    return Scenario(
        name="dynamics",
        run=ScenarioSection(seconds=seconds, seed=seed),
        target=TargetSection(fixed_milliseconds=60.0, token_milliseconds=token_milliseconds),
        rounds=RoundsSection(measure_payoff=False),
        boards={f"group{i}": group for i, group in enumerate(groups)},
    )


MAKERS: dict[str, Callable[[int], Scenario]] = {
    "step": step,
    "join": join,
    "newcomers": newcomers,
}


def play_one(what: tuple[str, PolicyName, float, int]) -> Values:
    """Tokens/s over those of the target alone, for as many as are there."""
    name, policy, limit, seed = what
    scenario = MAKERS[name](seed)
    rounds = msgspec.structs.replace(scenario.rounds, policy=policy, slowdown_limit=limit)
    record = play(msgspec.structs.replace(scenario, rounds=rounds)).record
    target = scenario.target
    num_open = (record.stream_seconds > 0.5 * record.bin_seconds).sum(axis=1)
    alone_seconds = 1e-3 * (target.fixed_milliseconds + target.token_milliseconds * num_open)
    values: Values = (record.tokens / record.bin_seconds * alone_seconds[:, None]).T.tolist()
    return values


def mean_of(runs: Sequence[Values], boards: slice, seconds: slice) -> float:
    """Geometric mean over boards and seeds, of the mean over the seconds."""
    return float(np.exp(np.log(np.array(runs)[:, boards, seconds].mean(axis=2)).mean()))


def least_of(runs: Sequence[Values]) -> float:
    """The worst board in any ten seconds; a token that a window just misses is counted."""
    values = np.array(runs)
    windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW_SECONDS, axis=2)
    one_token = 1e-3 * 60.0 / WINDOW_SECONDS
    return float(windows.mean(axis=-1).min()) + one_token


def seconds_to_level(runs: Sequence[Values]) -> tuple[float, float, int]:
    """The levels before and after the step, and how many seconds it takes to be there."""
    half = int(SECONDS / 2)
    tokens: FloatArray = np.array(runs).mean(axis=0)  # over seeds [boards, seconds]
    kernel = np.ones(SMOOTHED_SECONDS) / SMOOTHED_SECONDS
    smoothed = [np.convolve(row, kernel, "valid") for row in tokens]
    fleet = np.exp(np.log(np.maximum(smoothed, 1e-9)).mean(axis=0))
    before, after = (
        float(fleet[half // 2 : half - SMOOTHED_SECONDS].mean()),
        fleet[half + 20 :].mean(),
    )
    away = np.flatnonzero(np.abs(fleet[half:] / after - 1.0) > NEAR)
    # What is away later is noise: only what is so in one piece behind the step counts.
    num_seconds = next((i for i in range(len(fleet) - half) if i not in away), len(away))
    return before, after, num_seconds


@click.command()
@click.option("--seeds", "num_seeds", default=12, show_default=True)
@click.option("--processes", "num_processes", default=1, show_default=True)
@click.option("--what", "names", multiple=True, default=tuple(MAKERS), show_default=True)
def main(num_seeds: int, num_processes: int, names: tuple[str, ...]) -> None:
    """Print a table for each."""
    seeds = range(1, num_seeds + 1)
    tasks = [(name, *arm, seed) for name, arm, seed in itertools.product(names, ARMS, seeds)]
    with ProcessPoolExecutor(num_processes) as processes:
        results = dict(zip(tasks, processes.map(play_one, tasks), strict=True))
    for name in names:
        click.echo(f"\n{name}\n\n{HEADINGS[name]}")
        for policy, limit in ARMS:
            runs = [results[name, policy, limit, seed] for seed in seeds]
            told = f"{policy}, {'no limit' if limit > 1.0 else f'{100 * limit:g} %'}"
            click.echo(f"| {told} | {ROWS[name](runs)} |")


def _step_row(runs: Sequence[Values]) -> str:
    before, after, num_seconds = seconds_to_level(runs)
    return f"{before:.3f} | {num_seconds} | {after:.3f} | {least_of(runs):.3f}"


def _join_row(runs: Sequence[Values]) -> str:
    third = int(SECONDS / 3)
    first, stalled = slice(0, 8), slice(7, 8)
    parts = [
        mean_of(runs, first, slice(*seconds))
        for seconds in ((5, 20), (third + 5, 2 * third), (2 * third + 5, 3 * third))
    ]
    in_stall = slice(int(STALL.from_seconds), int(STALL.to_seconds))
    others = mean_of(runs, slice(0, 7), in_stall)
    told = " / ".join(f"{part:.3f}" for part in parts)
    return f"{told} | {mean_of(runs, stalled, in_stall):.3f} | {others:.3f}"


def _newcomers_row(runs: Sequence[Values]) -> str:
    late = slice(int(NEWCOMERS_AT) + 10, 40)
    known, new = mean_of(runs, slice(0, 24), late), mean_of(runs, slice(24, 96), late)
    return f"{known:.3f} | {new:.3f} | {100 * (new / known - 1):+.1f} %"


ROWS = {"step": _step_row, "join": _join_row, "newcomers": _newcomers_row}
HEADINGS = {
    "step": "| policy | before | seconds until within 2 % | after | worst board, any 10 s |\n"
    "|---|---|---|---|---|",
    "join": "| policy | before / while / after | stalled board in its stall | others meanwhile |\n"
    "|---|---|---|---|",
    "newcomers": "| policy | who was there | who joined | newcomers off by |\n|---|---|---|---|",
}


if __name__ == "__main__":
    main()
