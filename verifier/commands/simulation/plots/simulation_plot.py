"""The curves of a simulation over time, drawn with matplotlib (the extra `plot`)."""

from __future__ import annotations

from typing import Any

from verifier.commands.simulation.plots.pictures import panels, written
from verifier.sim.outcome import Outcome

# Of more boards only the band that they lie in is drawn.
MAX_LINES = 16


def draw(outcome: Outcome, file_format: str) -> bytes:
    """The picture: goodput, draft length, fairness and latency."""
    series = outcome.series
    figure, axes = panels(2, 2, (12, 8))
    title = f"{outcome.scenario}: policy {outcome.policy}, seed {outcome.seed}"
    figure.suptitle(title)
    _draw_boards(axes[0][0], outcome, series.tokens_per_second, "tokens/s of a board")
    _draw_boards(axes[0][1], outcome, series.draft_length, "draft tokens tested a round")
    fairness, sums = axes[1][0], axes[1][0].twinx()
    fairness.plot(series.seconds, series.jain_index, color="tab:green")
    fairness.set(ylabel="Jain index", xlabel="seconds", ylim=(0.0, 1.02))
    sums.plot(series.seconds, [value or float("nan") for value in series.log_goodput], "--")
    sums.set(ylabel="Σ ln tokens/s (dashed)")
    _draw_latency(axes[1][1], outcome)
    return written(figure, file_format)


def _draw_boards(
    axes: Any, outcome: Outcome, values: tuple[tuple[float, ...], ...], label: str
) -> None:
    seconds = outcome.series.seconds
    if len(values) <= MAX_LINES:
        for board, line in zip(outcome.boards, values, strict=True):
            axes.plot(seconds, line, linewidth=1.0, label=board.name)
        axes.legend(fontsize=7, ncols=2)
    else:
        ordered = list(zip(*[sorted(column) for column in zip(*values, strict=True)], strict=True))
        last = len(ordered) - 1
        axes.fill_between(seconds, ordered[0], ordered[last], alpha=0.2, label="all")
        axes.fill_between(
            seconds, ordered[last // 4], ordered[3 * last // 4], alpha=0.4, label="half of them"
        )
        axes.plot(seconds, ordered[last // 2], label="median")
        axes.legend(fontsize=7)
    axes.set(ylabel=label, xlabel="seconds", ylim=(0.0, None))


def _draw_latency(axes: Any, outcome: Outcome) -> None:
    """From verdict to verdict, board by board."""
    boards = sorted(outcome.boards, key=lambda board: board.pause_p50_seconds or 0.0)
    for label, name in (("median", "pause_p50_seconds"), ("p99", "pause_p99_seconds")):
        values = [getattr(board, name) for board in boards]
        milliseconds = [float("nan") if value is None else 1e3 * value for value in values]
        axes.plot(range(1, len(boards) + 1), milliseconds, ".", label=label)
    axes.set(ylabel="milliseconds from verdict to verdict", xlabel="boards, by their median")
    axes.set_ylim(bottom=0.0)
    axes.legend(fontsize=7)
