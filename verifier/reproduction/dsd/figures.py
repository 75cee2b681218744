"""What the page about DSD is made of: all arms in twelve cells, and over round trips."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import numpy as np

from verifier.policies.awc_weights import AwcFile, read_weights
from verifier.reproduction.dsd.arms import ARMS, WEIGHTS, ArmName, Job, play_job
from verifier.reproduction.dsd.cells import CELLS, TARGETS, Cell, setting_of
from verifier.reproduction.spread import Spread, changes, spread_of
from verifier.sim.many_verifiers.outcome import ManyOutcome
from verifier.sim.many_verifiers.setting import ManySetting, TargetKind

ROUND_TRIPS = (0.005, 0.010, 0.020, 0.030, 0.040, 0.060, 0.080, 0.100)
CROSSING_ARMS: tuple[ArmName, ...] = (
    *("target alone", "static 4", "awc", "awc, 8 inputs"),
    *("static 4 ahead", "awc ahead", "awc ahead, 8 inputs", "ours"),
)
RIVALS: tuple[ArmName, ...] = (
    *("target alone", "static 4", "awc", "awc, 8 inputs", "perfect window"),
    *("static 4 ahead", "awc ahead", "awc ahead, 8 inputs"),
)
# Of the sweeps beside the twelve cells.
MAX_SWEEP_SEEDS = 3

# Plays jobs, perhaps in several processes, and gives their outcomes in the jobs' order.
Player = Callable[[Sequence[Job]], Iterable[ManyOutcome]]


def play_here(jobs: Sequence[Job]) -> Iterator[ManyOutcome]:
    """In this process."""
    return map(play_job, jobs)


class Sweep(msgspec.Struct, frozen=True):
    """What is played; the defaults are the page's."""

    cells: tuple[Cell, ...] = CELLS
    targets: tuple[TargetKind, ...] = TARGETS
    round_trips: tuple[float, ...] = ROUND_TRIPS
    seconds: float = 20.0
    warm_up_seconds: float = 5.0
    crossing_devices: int = 600


class ArmFigures(msgspec.Struct, frozen=True):
    """One arm in one cell; changes are those of paired seeds."""

    cell: Cell
    arm: ArmName
    tokens_per_second: Spread
    device_tokens_per_second: Spread
    first_token_seconds: Spread
    token_seconds: Spread
    token_p95_seconds: Spread
    utilisation: float
    acceptance: float | None
    mean_window: float
    fused_part: float
    """Of stream-rounds: those that tested nothing."""
    over: dict[ArmName, Spread]
    """Tokens/s of a device, geometric mean, over those of each of `RIVALS`."""
    throughput_over_static: Spread
    token_seconds_over_static: Spread
    first_token_over_static: Spread
    p95_over_awc: Spread
    first_token_over_awc: Spread


class CrossingFigures(msgspec.Struct, frozen=True):
    """One arm at one round trip, GSM8K."""

    round_trip_seconds: float
    arm: ArmName
    over_alone: Spread
    fused_part: float


class DsdFigures(msgspec.Struct, frozen=True):
    """All of them."""

    num_seeds: int
    training: dict[ArmName, AwcFile]
    arms: tuple[ArmFigures, ...]
    crossing: tuple[CrossingFigures, ...]

    def of(self, cell: Cell, arm: ArmName) -> ArmFigures:
        """One of `arms`."""
        return next(f for f in self.arms if (cell, arm) == (f.cell, f.arm))

    def all_of(self, arm: ArmName) -> list[ArmFigures]:
        """One arm, all cells."""
        return [figures for figures in self.arms if figures.arm == arm]


def dsd_figures(
    num_seeds: int,
    advance: Callable[[float], None],
    player: Player = play_here,
    sweep: Sweep | None = None,
) -> DsdFigures:
    """All arms on the same worlds; `advance` gets the part that is done, now and then."""
    sweep = sweep or Sweep()
    num_few = min(num_seeds, MAX_SWEEP_SEEDS)
    crossing_cells = [
        Cell(sweep.cells[0].workload, sweep.crossing_devices, seconds)
        for seconds in sweep.round_trips
    ]
    jobs = [
        *_jobs(sweep.cells, sweep, ARMS, num_seeds),
        *_jobs(crossing_cells, sweep, CROSSING_ARMS, num_few),
    ]
    outcomes = []
    for outcome in player(jobs):
        outcomes.append(outcome)
        advance(len(outcomes) / len(jobs))
    played = iter(outcomes)
    arms: list[ArmFigures] = []
    for cell in sweep.cells:
        of_cell = _by_arm(played, ARMS, num_seeds)
        arms += [_arm(cell, arm, of_cell) for arm in ARMS]
    crossing: list[CrossingFigures] = []
    for cell in crossing_cells:
        of_cell = _by_arm(played, CROSSING_ARMS, num_few)
        crossing += [_crossing(cell, arm, of_cell) for arm in CROSSING_ARMS]
    training = {arm: read_weights(file)[1] for arm, file in WEIGHTS.items()}
    return DsdFigures(num_seeds, training, tuple(arms), tuple(crossing))


Played = dict[ArmName, list[ManyOutcome]]


def _setting(cell: Cell, sweep: Sweep) -> ManySetting:
    return msgspec.structs.replace(
        setting_of(cell, sweep.targets),
        seconds=sweep.seconds,
        warm_up_seconds=sweep.warm_up_seconds,
    )


def _jobs(
    cells: Iterable[Cell], sweep: Sweep, arms: Sequence[ArmName], num_seeds: int
) -> Iterator[Job]:
    """All arms of a seed follow each other: they share what it draws."""
    for cell, seed in itertools.product(cells, range(1, num_seeds + 1)):
        setting = _setting(cell, sweep)
        yield from (Job(setting, arm, seed) for arm in arms)


def _by_arm(outcomes: Iterator[ManyOutcome], arms: Sequence[ArmName], num_seeds: int) -> Played:
    """Those of the next cell, as `_jobs` orders them."""
    of_cell = list(itertools.islice(outcomes, num_seeds * len(arms)))
    return {arm: of_cell[place :: len(arms)] for place, arm in enumerate(arms)}


def _values(outcomes: Sequence[ManyOutcome], name: str) -> list[float]:
    return [float(getattr(outcome, name)) for outcome in outcomes]


def _arm(cell: Cell, arm: ArmName, played: Played) -> ArmFigures:
    own, static, awc = (played[name] for name in (arm, "static 4", "awc"))

    def against(rivals: list[ManyOutcome], name: str) -> Spread:
        return changes(_values(own, name), _values(rivals, name))

    accepted = [outcome.acceptance for outcome in own if outcome.acceptance is not None]
    counts = np.sum([outcome.window_counts for outcome in own], axis=0)
    speed = "device_tokens_per_second"
    return ArmFigures(
        cell=cell,
        arm=arm,
        tokens_per_second=spread_of(_values(own, "tokens_per_second")),
        device_tokens_per_second=spread_of(_values(own, speed)),
        first_token_seconds=spread_of(_values(own, "first_token_seconds")),
        token_seconds=spread_of(_values(own, "token_seconds")),
        token_p95_seconds=spread_of(_values(own, "token_p95_seconds")),
        utilisation=float(np.mean(_values(own, "utilisation"))),
        acceptance=float(np.mean(accepted)) if accepted else None,
        mean_window=float((counts * np.arange(len(counts))).sum() / max(counts.sum(), 1)),
        fused_part=float(counts[0] / max(counts.sum(), 1)),
        over={rival: against(played[rival], speed) for rival in RIVALS},
        throughput_over_static=against(static, "tokens_per_second"),
        token_seconds_over_static=against(static, "token_seconds"),
        first_token_over_static=against(static, "first_token_seconds"),
        p95_over_awc=against(awc, "token_p95_seconds"),
        first_token_over_awc=against(awc, "first_token_seconds"),
    )


def _crossing(cell: Cell, arm: ArmName, played: Played) -> CrossingFigures:
    speed = "device_tokens_per_second"
    counts = np.sum([outcome.window_counts for outcome in played[arm]], axis=0)
    return CrossingFigures(
        round_trip_seconds=cell.round_trip_seconds,
        arm=arm,
        over_alone=changes(_values(played[arm], speed), _values(played["target alone"], speed)),
        fused_part=float(counts[0] / max(counts.sum(), 1)),
    )
