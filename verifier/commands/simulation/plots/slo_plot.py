"""The picture of the page about SLOs: tokens in time, and the wait for the first one."""

from __future__ import annotations

from verifier.commands.simulation.plots.pictures import panels, written
from verifier.reproduction.slo_batches.arms import ARMS
from verifier.reproduction.slo_batches.figures import SloFigures


def draw_slo_figures(figures: SloFigures) -> bytes:
    """Three panels over the number of devices, as SVG."""
    figure, axes = panels(1, 3, (15, 4.5))
    in_time, per_second, first_token = axes[0]
    for arm in ARMS:
        rows = figures.all_of(arm)
        places = figures.num_devices
        shares = [100 * row.in_time.mean for row in rows]
        below = [100 * (row.in_time.mean - row.in_time.least) for row in rows]
        above = [100 * (row.in_time.most - row.in_time.mean) for row in rows]
        in_time.errorbar(places, shares, (below, above), capsize=2, marker="o", label=arm)
        speeds = [row.in_time_per_second.mean for row in rows]
        per_second.plot(places, speeds, marker="o", label=arm)
        waits = [row.first_token_p95_seconds.mean for row in rows]
        first_token.plot(places, waits, marker="o", label=arm)
    in_time.axhline(95.0, color="black", linewidth=0.6)
    in_time.set(ylabel="tokens within their SLO, %")
    per_second.set(ylabel="tokens within their SLO, a second")
    first_token.set(ylabel="first token, 95th percentile, s", yscale="log")
    for panel in axes[0]:
        panel.set(xlabel="devices")
    in_time.legend(fontsize=7)
    return written(figure, "svg")
