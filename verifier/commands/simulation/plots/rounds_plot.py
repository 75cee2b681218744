"""The picture of the page about GoodSpeed: gains over Fixed-S beside the paper's."""

from __future__ import annotations

from typing import Any

from verifier.commands.simulation.plots.pictures import panels, written
from verifier.reproduction.goodspeed_rounds.figures import ARMS, SPREADS, TABLE_I, RoundFigures


def draw_round_figures(figures: RoundFigures) -> bytes:
    """A panel for each spread of acceptance, as SVG."""
    figure, axes = panels(1, len(SPREADS), (12, 4.5))
    for panel, spread in zip(axes[0], SPREADS, strict=True):
        _draw(panel, figures, spread.name)
        panel.set(title=f"acceptance {spread.name}: {spread.least:g} to {spread.most:g}")
    return written(figure, "svg")


def _draw(axes: Any, figures: RoundFigures, spread: str) -> None:
    places = range(len(TABLE_I))
    width = 0.8 / len(ARMS)
    for number, arm in enumerate(ARMS):
        gains = [
            figures.gain(spread, row.num_clients, row.budget_tokens, arm.name).over_fixed
            for row in TABLE_I
        ]
        means = [100 * gain.mean for gain in gains]
        below = [100 * (gain.mean - gain.least) for gain in gains]
        above = [100 * (gain.most - gain.mean) for gain in gains]
        shifted = [place + (number - 1) * width for place in places]
        axes.bar(shifted, means, width, yerr=(below, above), capsize=2, label=arm.name)
    paper = [100 * row.paper_gain for row in TABLE_I]
    axes.plot(places, paper, "k_", markersize=22, label="the paper's")
    names = [f"{row.models}\nN {row.num_clients}, C {row.budget_tokens}" for row in TABLE_I]
    axes.set_xticks(places, names, fontsize=7)
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set(ylabel="goodput over Fixed-S, %")
    axes.legend(fontsize=7)
