"""What is printed of a grid of fleets (`simulate_grid`): cells, sums over them, and what misses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import click
import numpy as np

from shared.speculation.fairness import jain_index

ALONE = "target alone"
ORACLE, RATE, RATE_LIMITED = "oracle", "rate, no limit", "rate, 5 %"
# What every cell should reach: of the oracle, of the best other policy, of the target alone over a
# run, and in any ten seconds.
LEAST_OF_ORACLE, LEAST_OF_RIVALS, LEAST_OF_ALONE, LEAST_IN_WINDOW = 0.975, 0.99, 0.95, 0.93


class Cell(NamedTuple):
    """One place of the grid."""

    fixed_ms: float
    ratio: float  # c0 over c1
    boards: str
    num_boards: int

    @property
    def alone_seconds(self) -> float:
        """A round of the target alone."""
        fixed = 1e-3 * self.fixed_ms
        return fixed + self.num_boards * fixed / self.ratio


class Played(NamedTuple):
    """All boards of a fleet, over the target alone."""

    ratios: list[float]  # over the whole run
    least: list[float]  # over the worst 10 s, or over the run where that is shorter


Found = Mapping[Cell, Mapping[str, Played]]


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(np.maximum(values, 1e-9)))))


def print_table(found: Found, arms: Sequence[str]) -> None:
    click.echo(f"| c0 ms | c0/c1 | boards | devices | {' | '.join(arms)} |")
    click.echo(f"|{'---|' * (4 + len(arms))}")
    for cell, of_arms in found.items():
        cells = [
            f"{geometric_mean(of_arms[arm].ratios):.3f} ({min(of_arms[arm].ratios):.2f})"
            for arm in arms
        ]
        place = f"{cell.fixed_ms:g} | {cell.ratio:g} | {cell.boards} | {cell.num_boards}"
        click.echo(f"| {place} | {' | '.join(cells)} |")


def print_sums(found: Found, arms: Sequence[str]) -> None:
    """Over all cells: means, parts of the oracle, and whom it went worst for."""
    means = {
        arm: np.array([geometric_mean(of_arms[arm].ratios) for of_arms in found.values()])
        for arm in arms
    }
    click.echo(
        f"\n| {len(found)} cells | mean | of the oracle (worst) | worst board "
        "| its worst 10 s | Jain's index |\n|---|---|---|---|---|---|"
    )
    for arm in arms:
        parts = means[arm] / means[ORACLE] if ORACLE in arms else np.array([np.nan])
        all_played = [of_arms[arm] for of_arms in found.values()]
        jain = np.mean([jain_index(one.ratios) for one in all_played])
        worst = min(min(one.ratios) for one in all_played)
        least = min(min(one.least) for one in all_played)
        click.echo(
            f"| {arm} | {geometric_mean(means[arm]):.3f} | {parts.mean():.3f} ({parts.min():.3f}) "
            f"| {worst:.3f} | {least:.3f} | {jain:.3f} |"
        )
    rivals = [arm for arm in arms if arm not in (RATE, RATE_LIMITED, ORACLE)]
    if rivals and RATE in arms:
        best = np.maximum(np.max([means[arm] for arm in rivals], axis=0), 1.0)
        over = means[RATE] / best
        click.echo(
            f"{RATE} over the best of the target alone and all others but the oracle, in each "
            f"cell: {geometric_mean(over):.3f}, worst {over.min():.3f}"
        )


def print_tables(found: Found, arms: Sequence[str]) -> None:
    """All of that, where anything was played."""
    if not found:
        return
    print_table(found, arms)
    print_sums(found, arms)
    for ratio in sorted({cell.ratio for cell in found}):
        of_ratio = [of_arms for cell, of_arms in found.items() if cell.ratio == ratio]
        means = [
            f"{arm} {geometric_mean([geometric_mean(of[arm].ratios) for of in of_ratio]):.3f}"
            for arm in arms
            if arm in (RATE, RATE_LIMITED)
        ]
        click.echo(f"c0/c1 {ratio:g}: {', '.join(means)}")
    for line in misses(found, arms):
        click.echo(line)
    click.echo()


def misses(found: Found, arms: Sequence[str]) -> Iterator[str]:
    """A line for each cell and aim that it misses."""
    rivals = [arm for arm in arms if arm not in (RATE, RATE_LIMITED, ORACLE)]
    for cell, of_arms in found.items():
        means = {arm: geometric_mean(of_arms[arm].ratios) for arm in arms}
        place = f"{cell.fixed_ms:g} {cell.ratio:g} {cell.boards} {cell.num_boards}"
        if {RATE, ORACLE} <= means.keys() and means[RATE] < LEAST_OF_ORACLE * means[ORACLE]:
            yield f"{place}: {means[RATE] / means[ORACLE]:.3f} of the oracle"
        if rivals and RATE in arms:
            best = max(rivals, key=lambda arm: means[arm])
            over = means[RATE] / max(means[best], 1.0)
            if over < LEAST_OF_RIVALS:
                yield f"{place}: {over:.3f} of {best if means[best] > 1.0 else 'the target alone'}"
        if RATE_LIMITED in arms:
            limited = of_arms[RATE_LIMITED]
            if min(limited.ratios) < LEAST_OF_ALONE or min(limited.least) < LEAST_IN_WINDOW:
                yield (
                    f"{place}: with 5 % the worst board {min(limited.ratios):.3f}, "
                    f"in its worst 10 s {min(limited.least):.3f}"
                )
