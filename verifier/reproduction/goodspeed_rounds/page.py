"""The page about GoodSpeed."""

from __future__ import annotations

from verifier.reproduction.goodspeed_rounds.claims import round_claims
from verifier.reproduction.goodspeed_rounds.figures import (
    ARMS,
    SPREADS,
    TABLE_I,
    RoundFigures,
)
from verifier.reproduction.goodspeed_rounds.rounds import CONCENTRATION
from verifier.reproduction.page import Page, Part, Table

PICTURE = "goodspeed.svg"


def round_page(figures: RoundFigures, command: str) -> Page:
    """Claims, and the figures behind them."""
    return Page(
        title="GoodSpeed (arXiv 2512.09963), reproduced",
        command=command,
        summary=(
            "Synchronous rounds as published: every client drafts, all wait for the slowest, a "
            "round checks C tokens, and the scheduler deals the next lengths. All figures are "
            f"simulated, {figures.gains[0].num_fleets} fleets for each setting "
            f"({figures.num_seeds} seeds), the same for every arm: mean (least … most). Goodput is "
            "in tokens a round, as in the paper; what our own planner makes of rounds without a "
            "barrier stands in [scheduling](../scheduling.md)."
        ),
        claims=round_claims(figures),
        parts=(
            Part("Table I", _table_text(), _table(figures), PICTURE),
            Part("The way to the optimum", _OPTIMUM_TEXT, _optimum(figures)),
        ),
    )


_OPTIMUM_TEXT = (
    "Geometric mean over clients of expected goodput, over that of the optimum; acceptance known "
    "and widely spread, 5,000 rounds."
)


def _table_text() -> str:
    spreads = "; ".join(f"*{s.name}*: {s.least:g} to {s.most:g}" for s in SPREADS)
    return (
        "Geometric mean over clients of the expected goodput of 600 rounds, over that of Fixed-S "
        f"on the same fleet. Acceptance rates are drawn evenly, {spreads}. Estimates follow the "
        "paper's equation 3 with η 0.1 (its value is not known), from acceptance probabilities "
        f"of a Beta law of concentration {CONCENTRATION:g}. *Optimum*: what no scheduler exceeds."
    )


def _table(figures: RoundFigures) -> Table:
    rows = []
    for row in TABLE_I:
        for spread in SPREADS:
            gains = [
                figures.gain(spread.name, row.num_clients, row.budget_tokens, arm.name)
                for arm in ARMS
            ]
            rows.append(
                (
                    row.models,
                    f"{row.num_clients}, {row.budget_tokens}",
                    f"{100 * row.paper_gain:+.1f} %",
                    spread.name,
                    *[f"{g.over_fixed.percent()}, {g.num_lost} lost" for g in gains],
                    gains[0].optimum_over_fixed.percent(),
                    f"{gains[0].jain_fixed:.3f}, {gains[1].jain:.3f}",
                )
            )
    header = (
        *("models", "N, C", "paper", "acceptance", *[arm.name for arm in ARMS]),
        *("optimum", "Jain's index: Fixed-S, β 0.1"),
    )
    return Table(header, tuple(rows))


def _optimum(figures: RoundFigures) -> Table:
    return Table(
        ("N, C", "β", "of the optimum"),
        tuple(
            (
                f"{o.num_clients}, {o.budget_tokens}",
                f"{o.goodput_smoothing:g}",
                o.of_optimum.number(4),
            )
            for o in figures.optimum
        ),
    )
