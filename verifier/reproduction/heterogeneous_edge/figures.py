"""What the page about heterogeneous edge networks is made of: plans of all arms over paired seeds.

A seed's users are the same for every arm, model pair and constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from verifier.reproduction.heterogeneous_edge.arms import ARMS, ArmName, EdgePlan, EdgePlanner
from verifier.reproduction.heterogeneous_edge.models import ModelName
from verifier.reproduction.heterogeneous_edge.scenario import (
    CellSection,
    EdgeScenario,
    RequestSection,
    StationSection,
)
from verifier.reproduction.heterogeneous_edge.world import draw_users
from verifier.reproduction.spread import Spread, changes, spread_of

Pair = tuple[ModelName, ModelName]
# The paper's three, and the second one with the cache that TinyLlama really has.
PAIRS: tuple[Pair, ...] = (
    ("llama-68m", "llama-7b"),
    ("llama-1.1b", "llama-7b"),
    ("llama-1.1b", "llama-13b"),
    ("tinyllama-1.1b", "llama-7b"),
)
PAPER_PAIRS = PAIRS[:3]
BANDWIDTH_MEGAHERTZ = 25.0  # of the paper's comparison of shares
PROMPT_TOKEN_BITS = (32.0, 1e3, 1e4, 65_536.0, 2.5e5, 5e5, 1e6, 2e6, 4e6, 1e7)
SLOWNESSES = (1.0, 4.0)
BATCHING_PAIRS: tuple[Pair, ...] = (PAIRS[1], PAIRS[3])


class Sweep(msgspec.Struct, frozen=True):
    """What is varied; the defaults are the page's."""

    num_users: int = 100
    acceptances: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    batching_users: tuple[int, ...] = (30, 60, 90, 150)


class ArmFigures(msgspec.Struct, frozen=True):
    """One arm with one pair in the paper's cell."""

    pair: Pair
    arm: ArmName
    seconds: Spread
    joint_change: Spread
    """By which part the joint plan is shorter."""
    example: EdgePlan
    """Of the first seed."""


class BandwidthFigures(msgspec.Struct, frozen=True):
    """Optimal against equal shares, 25 MHz."""

    pair: Pair
    prompt_token_bits: float
    upload_seconds: Spread
    upload_change: Spread
    total_change: Spread


class BatchingFigures(msgspec.Struct, frozen=True):
    """The exact cut against others."""

    pair: Pair
    num_users: int
    small_slowness: float
    maximal_change: Spread
    heuristic_change: Spread


class AcceptanceFigures(msgspec.Struct, frozen=True):
    """The joint plan against the large station alone."""

    pair: Pair
    acceptance: float
    autoregressive_change: Spread
    same_memory_change: Spread


class EdgeFigures(msgspec.Struct, frozen=True):
    """All of them."""

    num_seeds: int
    arms: tuple[ArmFigures, ...]
    bandwidth: tuple[BandwidthFigures, ...]
    batching: tuple[BatchingFigures, ...]
    acceptance: tuple[AcceptanceFigures, ...]

    def arm(self, pair: Pair, arm: ArmName) -> ArmFigures:
        """One of `arms`."""
        return next(figures for figures in self.arms if (pair, arm) == (figures.pair, figures.arm))


def edge_figures(
    num_seeds: int, advance: Callable[[float], None], sweep: Sweep | None = None
) -> EdgeFigures:
    """All plans; `advance` gets the part that is done, now and then."""
    sweep = sweep or Sweep()
    num_done = 0
    num_all = len(PAIRS) + len(PAPER_PAIRS) * (1 + len(sweep.acceptances))
    num_all += len(BATCHING_PAIRS) * len(sweep.batching_users) * len(SLOWNESSES)

    def done(_: object) -> None:
        nonlocal num_done
        num_done += 1
        advance(min(num_done / num_all, 1.0))

    arms: list[ArmFigures] = []
    for pair in PAIRS:
        arms += _arms(pair, sweep, num_seeds)
        done(pair)
    bandwidth: list[BandwidthFigures] = []
    for pair in PAPER_PAIRS:
        bandwidth += _bandwidth(pair, sweep, num_seeds)
        done(pair)
    batching = list(_noted(_batching(sweep, num_seeds), done))
    acceptance = list(_noted(_acceptance(sweep, num_seeds), done))
    return EdgeFigures(num_seeds, tuple(arms), tuple(bandwidth), tuple(batching), tuple(acceptance))


_Figure = TypeVar("_Figure", bound=msgspec.Struct)


def _noted(figures: Iterator[_Figure], done: Callable[[object], None]) -> Iterator[_Figure]:
    for figure in figures:
        done(figure)
        yield figure


class _Seeds:
    """Plans over all seeds, of as many arms as are asked for."""

    def __init__(self, scenario: EdgeScenario, num_seeds: int) -> None:
        self._planners = [
            EdgePlanner(scenario, draw_users(scenario, seed)) for seed in range(1, num_seeds + 1)
        ]

    def plans(self, arm: ArmName) -> list[EdgePlan]:
        return [planner.plan(arm) for planner in self._planners]

    def seconds(self, arm: ArmName) -> list[float]:
        return [plan.seconds for plan in self.plans(arm)]


def _stations(pair: Pair, small_slowness: float = 1.0) -> StationSection:
    draft_model, target_model = pair
    return StationSection(
        draft_model=draft_model, target_model=target_model, small_slowness=small_slowness
    )


def _arms(pair: Pair, sweep: Sweep, num_seeds: int) -> Iterator[ArmFigures]:
    cell = CellSection(users=sweep.num_users)
    scenario = EdgeScenario(cell=cell, stations=_stations(pair))
    seeds = _Seeds(scenario, num_seeds)
    joint = seeds.seconds("joint")
    for arm in ARMS:
        plans = seeds.plans(arm)
        seconds = [plan.seconds for plan in plans]
        yield ArmFigures(pair, arm, spread_of(seconds), changes(joint, seconds), plans[0])


def _bandwidth(pair: Pair, sweep: Sweep, num_seeds: int) -> Iterator[BandwidthFigures]:
    """Uploads take time in proportion to the bits; decoding does not see them."""
    cell = CellSection(users=sweep.num_users, bandwidth_megahertz=BANDWIDTH_MEGAHERTZ)
    scenario = EdgeScenario(
        cell=cell, requests=RequestSection(prompt_token_bits=1.0), stations=_stations(pair)
    )
    seeds = _Seeds(scenario, num_seeds)
    best, equal = seeds.plans("joint"), seeds.plans("uniform bandwidth")
    for bits in PROMPT_TOKEN_BITS:
        uploads, equals = ([bits * plan.upload_seconds for plan in arm] for arm in (best, equal))
        decoding = [plan.decode_seconds for plan in best]
        totals, rivals = (
            [a + b for a, b in zip(arm, decoding, strict=True)] for arm in (uploads, equals)
        )
        yield BandwidthFigures(
            pair, bits, spread_of(uploads), changes(uploads, equals), changes(totals, rivals)
        )


def _batching(sweep: Sweep, num_seeds: int) -> Iterator[BatchingFigures]:
    counts = sweep.batching_users
    for pair, slowness, count in itertools.product(BATCHING_PAIRS, SLOWNESSES, counts):
        scenario = EdgeScenario(cell=CellSection(users=count), stations=_stations(pair, slowness))
        seeds = _Seeds(scenario, num_seeds)
        joint = seeds.seconds("joint")
        maximal = changes(joint, seeds.seconds("maximal batching"))
        heuristic = changes(joint, seeds.seconds("heuristic batching"))
        yield BatchingFigures(pair, count, slowness, maximal, heuristic)


def _acceptance(sweep: Sweep, num_seeds: int) -> Iterator[AcceptanceFigures]:
    for pair, acceptance in itertools.product(PAPER_PAIRS, sweep.acceptances):
        scenario = EdgeScenario(
            cell=CellSection(users=sweep.num_users),
            requests=RequestSection(acceptance=acceptance),
            stations=_stations(pair),
        )
        seeds = _Seeds(scenario, num_seeds)
        joint = seeds.seconds("joint")
        alone = changes(joint, seeds.seconds("autoregressive"))
        bounded = changes(joint, seeds.seconds("autoregressive, same memory"))
        yield AcceptanceFigures(pair, acceptance, alone, bounded)
