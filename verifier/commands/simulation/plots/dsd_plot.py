"""The picture of the page about DSD: cells, and round trips."""

from __future__ import annotations

from verifier.commands.simulation.plots.pictures import panels, written
from verifier.reproduction.dsd.arms import ARMS
from verifier.reproduction.dsd.figures import CROSSING_ARMS, DsdFigures


def draw_dsd_figures(figures: DsdFigures) -> bytes:
    """As SVG."""
    figure, axes = panels(1, 2, (14, 5))
    cells, crossing = axes[0]
    names = list(dict.fromkeys(row.cell for row in figures.arms))
    for arm in ARMS:
        changes = [figures.of(cell, arm).over["static 4"] for cell in names]
        cells.errorbar(
            range(len(names)),
            [100 * change.mean for change in changes],
            yerr=(
                [100 * (change.mean - change.least) for change in changes],
                [100 * (change.most - change.mean) for change in changes],
            ),
            fmt="o",
            capsize=2,
            label=arm,
        )
    cells.set_xticks(range(len(names)), [cell.name for cell in names], rotation=60, fontsize=7)
    cells.set(ylabel="tokens/s of a device over static 4, %")
    cells.legend(fontsize=7)
    for arm in CROSSING_ARMS[1:]:
        rows = [row for row in figures.crossing if row.arm == arm]
        crossing.plot(
            [1e3 * row.round_trip_seconds for row in rows],
            [100 * row.over_alone.mean for row in rows],
            marker="o",
            label=arm,
        )
    crossing.axhline(0.0, color="black", linewidth=0.6)
    crossing.axvspan(50.0, 60.0, alpha=0.15, label="the paper's crossover")
    crossing.set(xlabel="round trip, ms", ylabel="tokens/s of a device over the target alone, %")
    crossing.legend(fontsize=7)
    return written(figure, "svg")
