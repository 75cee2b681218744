"""Pictures of heterogeneous edge networks: the arms of one cell, and the page's three panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from verifier.commands.simulation.plots.pictures import panels, written
from verifier.reproduction.heterogeneous_edge.arms import ARMS, EdgePlan
from verifier.reproduction.heterogeneous_edge.claims import PAPER_BANDWIDTH
from verifier.reproduction.heterogeneous_edge.figures import (
    BATCHING_PAIRS,
    PAPER_PAIRS,
    SLOWNESSES,
    EdgeFigures,
)


def draw_plans(plans: Sequence[EdgePlan], file_format: str) -> bytes:
    """Upload and decoding of each arm."""
    figure, axes = panels(1, 1, (8, 4))
    names = [plan.arm for plan in plans]
    uploads = [plan.upload_seconds for plan in plans]
    axes[0][0].barh(names, uploads, label="upload")
    axes[0][0].barh(names, [plan.decode_seconds for plan in plans], left=uploads, label="decoding")
    axes[0][0].invert_yaxis()
    axes[0][0].set(xlabel="seconds")
    axes[0][0].legend()
    return written(figure, file_format)


def draw_edge_figures(figures: EdgeFigures) -> bytes:
    """The page's picture, as SVG."""
    figure, axes = panels(1, 3, (15, 4.5))
    _draw_arms(axes[0][0], figures)
    _draw_bandwidth(axes[0][1], figures)
    _draw_batching(axes[0][2], figures)
    return written(figure, "svg")


def _draw_arms(axes: Any, figures: EdgeFigures) -> None:
    height = 0.8 / len(PAPER_PAIRS)
    for number, pair in enumerate(PAPER_PAIRS):
        places = [place + (number - 1) * height for place in range(len(ARMS))]
        seconds = [figures.arm(pair, arm).seconds.mean for arm in ARMS]
        axes.barh(places, seconds, height=height, label=" / ".join(pair))
    axes.set_yticks(range(len(ARMS)), ARMS, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="seconds", xscale="log", title="K = 100, 20 MHz")
    axes.legend(fontsize=7)


def _draw_bandwidth(axes: Any, figures: EdgeFigures) -> None:
    for pair in PAPER_PAIRS:
        rows = [row for row in figures.bandwidth if row.pair == pair]
        bits = [row.prompt_token_bits for row in rows]
        changes = [row.total_change for row in rows]
        (line,) = axes.plot(bits, [100 * c.mean for c in changes], label=" / ".join(pair))
        low, high = ([100 * getattr(c, name) for c in changes] for name in ("least", "most"))
        axes.fill_between(bits, low, high, alpha=0.2)
        axes.axhline(100 * PAPER_BANDWIDTH[pair], color=line.get_color(), linestyle=":")
    axes.set(
        xscale="log",
        xlabel="bits of a prompt token",
        ylabel="total, % (dotted: the paper's figure)",
        title="optimal against equal bandwidth, 25 MHz",
    )
    axes.legend(fontsize=7)


def _draw_batching(axes: Any, figures: EdgeFigures) -> None:
    for pair in BATCHING_PAIRS:
        for slowness in SLOWNESSES:
            rows = [r for r in figures.batching if (pair, slowness) == (r.pair, r.small_slowness)]
            axes.plot(
                [row.num_users for row in rows],
                [100 * row.maximal_change.mean for row in rows],
                marker="o",
                label=f"{pair[0]}, small station {slowness:g} times slower",
            )
    axes.set(xlabel="users", ylabel="total, %", title="exact cut against maximal batches")
    axes.legend(fontsize=7)
