"""What the page about GoodSpeed is made of: Table I's settings over two spreads of acceptance."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import numpy as np

from shared.speculation.fairness import jain_index
from shared.speculation.goodput import FloatArray
from verifier.reproduction.goodspeed_rounds.optimum import optimal_goodputs
from verifier.reproduction.goodspeed_rounds.rounds import (
    RoundSettings,
    RoundsPlayed,
    Scheduler,
    play_rounds,
)
from verifier.reproduction.spread import Spread, spread_of

NUM_ROUNDS = 600
NUM_ROUNDS_TO_OPTIMUM = 5000
# The paper runs each setting once; so many fleets are drawn here for one seed.
INSTANCES_OF_SEED = 4


class TableRow(msgspec.Struct, frozen=True):
    """A setting of Table I, and what the paper's Figures 3 and 4 say of it."""

    models: str
    num_clients: int
    budget_tokens: int
    paper_gain: float
    """Geometric mean of goodput over clients, GoodSpeed over Fixed-S."""
    paper_receiving: float | None
    """Time waiting for drafts, GoodSpeed over Fixed-S."""


TABLE_I = (
    TableRow("Qwen3 14B", 4, 24, 0.008, None),
    TableRow("Qwen3 14B", 4, 28, 0.067, None),
    TableRow("Qwen3 14B", 8, 16, 0.042, 1590 / 1373),
    TableRow("Qwen3 14B", 8, 20, 0.063, 1754 / 1425),
    TableRow("Llama 70B", 8, 16, 0.018, 564 / 555),
    TableRow("Llama 70B", 8, 20, 0.021, 696 / 533),
)
SETTINGS = tuple(dict.fromkeys((row.num_clients, row.budget_tokens) for row in TABLE_I))


class AcceptanceSpread(msgspec.Struct, frozen=True):
    """From where clients' acceptance rates are drawn, evenly."""

    name: str
    least: float
    most: float


SPREADS = (
    AcceptanceSpread("wide", 0.4, 0.97),
    # What the paper's own utilities imply under Fixed-S.
    AcceptanceSpread("as in the paper", 0.8, 0.96),
)


class ArmSettings(msgspec.Struct, frozen=True):
    """How the scheduler learns."""

    name: str
    goodput_smoothing: float
    acceptance_smoothing: float | None


ARMS = (
    ArmSettings("β 0.5 (the paper's), estimated", 0.5, 0.1),
    ArmSettings("β 0.1, estimated", 0.1, 0.1),
    ArmSettings("β 0.1, acceptance known", 0.1, None),
)


class GainFigures(msgspec.Struct, frozen=True):
    """One arm of GoodSpeed in one setting, over Fixed-S and Random-S on the same fleets."""

    spread: str
    num_clients: int
    budget_tokens: int
    arm: str
    over_fixed: Spread
    over_random: Spread
    optimum_over_fixed: Spread
    num_lost: int
    """Fleets in which Fixed-S gives more."""
    num_fleets: int
    jain_fixed: float
    jain: float
    receiving: Spread
    """Mean longest draft over that of Fixed-S: what the barrier waits for."""


class OptimumFigures(msgspec.Struct, frozen=True):
    """Expected goodput over the optimum, acceptance known, after 5,000 rounds."""

    num_clients: int
    budget_tokens: int
    goodput_smoothing: float
    of_optimum: Spread


class RoundFigures(msgspec.Struct, frozen=True):
    """All of them."""

    num_seeds: int
    gains: tuple[GainFigures, ...]
    optimum: tuple[OptimumFigures, ...]

    def gain(self, spread: str, num_clients: int, budget_tokens: int, arm: str) -> GainFigures:
        """One of `gains`."""
        wanted = (spread, num_clients, budget_tokens, arm)
        return next(
            g for g in self.gains if wanted == (g.spread, g.num_clients, g.budget_tokens, g.arm)
        )


def round_figures(
    num_seeds: int,
    advance: Callable[[float], None],
    num_rounds: tuple[int, int] = (NUM_ROUNDS, NUM_ROUNDS_TO_OPTIMUM),
) -> RoundFigures:
    """All arms on the same fleets; `advance` gets the part that is done, now and then.

    `num_rounds`: of Table I, and of the way to the optimum.
    """
    cells = list(itertools.product(SPREADS, SETTINGS))
    smoothings = (0.1, 0.5)
    gains: list[GainFigures] = []
    for done, (spread, (num_clients, budget)) in enumerate(cells, start=1):
        gains += _gains(spread, num_clients, budget, num_seeds, num_rounds[0])
        advance(0.5 * done / len(cells))
    optimum = []
    ways = list(itertools.product(smoothings, SETTINGS))
    for done, (smoothing, (num_clients, budget)) in enumerate(ways, start=1):
        optimum.append(_to_optimum(smoothing, num_clients, budget, num_seeds, num_rounds[1]))
        advance(0.5 + 0.5 * done / len(ways))
    return RoundFigures(num_seeds, tuple(gains), tuple(optimum))


def _fleets(spread: AcceptanceSpread, num_clients: int, num_seeds: int) -> FloatArray:
    """Acceptance rates [num_fleets, num_clients], the same for every arm and budget."""
    return np.concatenate(
        [
            np.random.default_rng([seed, num_clients]).uniform(
                spread.least, spread.most, size=(INSTANCES_OF_SEED, num_clients)
            )
            for seed in range(1, num_seeds + 1)
        ]
    )


def _play(
    rates: FloatArray,
    scheduler: Scheduler,
    budget: int,
    num_rounds: int,
    arm: ArmSettings = ARMS[-1],
) -> RoundsPlayed:
    settings = RoundSettings(
        scheduler=scheduler,
        budget_tokens=budget,
        num_rounds=num_rounds,
        goodput_smoothing=arm.goodput_smoothing,
        acceptance_smoothing=arm.acceptance_smoothing,
    )
    return play_rounds(rates, settings, np.random.default_rng([budget, rates.shape[1]]))


def _gains(
    spread: AcceptanceSpread, num_clients: int, budget: int, num_seeds: int, num_rounds: int
) -> list[GainFigures]:
    rates = _fleets(spread, num_clients, num_seeds)
    fixed = _play(rates, "fixed", budget, num_rounds)
    drawn = _geometric(_play(rates, "random", budget, num_rounds).expected_goodputs)
    best = _geometric(np.array([optimal_goodputs(row, budget) for row in rates]))
    of_fixed = _geometric(fixed.expected_goodputs)
    figures = []
    for arm in ARMS:
        played = _play(rates, "goodspeed", budget, num_rounds, arm)
        ours = _geometric(played.expected_goodputs)
        figures.append(
            GainFigures(
                spread=spread.name,
                num_clients=num_clients,
                budget_tokens=budget,
                arm=arm.name,
                over_fixed=spread_of((ours / of_fixed - 1.0).tolist()),
                over_random=spread_of((ours / drawn - 1.0).tolist()),
                optimum_over_fixed=spread_of((best / of_fixed - 1.0).tolist()),
                num_lost=int((ours < of_fixed).sum()),
                num_fleets=len(rates),
                jain_fixed=_jain(fixed.expected_goodputs),
                jain=_jain(played.expected_goodputs),
                receiving=spread_of((played.longest_draft / fixed.longest_draft).tolist()),
            )
        )
    return figures


def _to_optimum(
    smoothing: float, num_clients: int, budget: int, num_seeds: int, num_rounds: int
) -> OptimumFigures:
    rates = _fleets(SPREADS[0], num_clients, num_seeds)
    arm = ArmSettings("", smoothing, None)
    ours = _geometric(_play(rates, "goodspeed", budget, num_rounds, arm).expected_goodputs)
    best = _geometric(np.array([optimal_goodputs(row, budget) for row in rates]))
    return OptimumFigures(num_clients, budget, smoothing, spread_of((ours / best).tolist()))


def _geometric(goodputs: FloatArray) -> FloatArray:
    """Over clients [num_fleets]."""
    means: FloatArray = np.exp(np.log(goodputs).mean(axis=1))
    return means


def _jain(goodputs: FloatArray) -> float:
    return float(np.mean([jain_index(row.tolist()) for row in goodputs]))
