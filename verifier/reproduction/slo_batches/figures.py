"""What the page about SLOs is made of: every arm at every number of devices, on the same seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from verifier.reproduction.slo_batches.arms import (
    ARMS,
    MAX_LENGTH,
    ArmName,
    Job,
    check_time_of,
    play_job,
    users_of,
)
from verifier.reproduction.slo_batches.kept_slos import KeptSlos
from verifier.reproduction.slo_batches.ordered_batches import OrderedPlan, ordered_plan
from verifier.reproduction.slo_batches.world import NUM_DEVICES, SLO_MILLISECONDS, scenario_of
from verifier.reproduction.spread import Spread, changes, spread_of

# Plays jobs, perhaps in several processes, and gives their outcomes in the jobs' order.
Player = Callable[[Sequence[Job]], Iterable[KeptSlos]]


def play_here(jobs: Sequence[Job]) -> Iterator[KeptSlos]:
    """In this process."""
    return map(play_job, jobs)


class ArmFigures(msgspec.Struct, frozen=True):
    """One arm at one number of devices; changes are those of paired seeds."""

    num_devices: int
    arm: ArmName
    in_time: Spread
    in_time_by_class: dict[str, Spread]
    streams_kept: Spread
    tokens_per_second: Spread
    in_time_per_second: Spread
    first_token_p50_seconds: Spread
    first_token_p95_seconds: Spread
    in_time_over: dict[ArmName, Spread]
    """Tokens in time per second over those of each arm."""
    tokens_over: dict[ArmName, Spread]
    """Tokens per second over those of each arm."""


class SloFigures(msgspec.Struct, frozen=True):
    """All of them."""

    num_seeds: int
    num_devices: tuple[int, ...]
    arms: tuple[ArmFigures, ...]
    plans: dict[int, OrderedPlan]
    """DiP-SD's for the first seed, by the number of devices."""

    def of(self, num_devices: int, arm: ArmName) -> ArmFigures:
        """One of `arms`."""
        return next(f for f in self.arms if (num_devices, arm) == (f.num_devices, f.arm))

    def all_of(self, arm: ArmName) -> list[ArmFigures]:
        """One arm, by the number of devices."""
        return [self.of(num_devices, arm) for num_devices in self.num_devices]


def slo_figures(
    num_seeds: int,
    advance: Callable[[float], None],
    player: Player = play_here,
    num_devices: tuple[int, ...] = NUM_DEVICES,
) -> SloFigures:
    """All arms in the same worlds; `advance` gets the part that is done, now and then."""
    seeds = range(1, num_seeds + 1)
    jobs = [Job(*key) for key in itertools.product(num_devices, ARMS, seeds)]
    played: dict[tuple[int, ArmName], list[KeptSlos]] = {}
    for done, (job, kept) in enumerate(zip(jobs, player(jobs), strict=True), start=1):
        played.setdefault((job.num_devices, job.arm), []).append(kept)
        advance(done / len(jobs))
    return SloFigures(
        num_seeds=num_seeds,
        num_devices=num_devices,
        arms=tuple(_figures(played, *key) for key in played),
        plans={count: _plan(count) for count in num_devices},
    )


def _figures(
    played: dict[tuple[int, ArmName], list[KeptSlos]], num_devices: int, arm: ArmName
) -> ArmFigures:
    own = played[num_devices, arm]

    def over(values: Callable[[KeptSlos], float]) -> dict[ArmName, Spread]:
        ours = [values(kept) for kept in own]
        rivals = {name: [values(kept) for kept in played[num_devices, name]] for name in ARMS}
        return {name: changes(ours, theirs) for name, theirs in rivals.items() if all(theirs)}

    return ArmFigures(
        num_devices=num_devices,
        arm=arm,
        in_time=spread_of([kept.in_time for kept in own]),
        in_time_by_class={
            name: spread_of([kept.in_time_by_class[name] for kept in own])
            for name in SLO_MILLISECONDS
        },
        streams_kept=spread_of([kept.streams_kept for kept in own]),
        tokens_per_second=spread_of([kept.tokens_per_second for kept in own]),
        in_time_per_second=spread_of([kept.in_time_per_second for kept in own]),
        first_token_p50_seconds=spread_of([kept.first_token_p50_seconds for kept in own]),
        first_token_p95_seconds=spread_of([kept.first_token_p95_seconds for kept in own]),
        in_time_over=over(lambda kept: kept.in_time_per_second),
        tokens_over=over(lambda kept: kept.tokens_per_second),
    )


def _plan(num_devices: int) -> OrderedPlan:
    scenario = scenario_of(num_devices, seed=1)
    return ordered_plan(users_of(scenario), check_time_of(scenario), MAX_LENGTH)
