"""The curves of a simulation over time, drawn with matplotlib (the extra `plot`)."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

from shared.errors import GoodspeedError
from verifier.sim.outcome import Outcome

FORMATS = ("svg", "png", "pdf")
# Of more boards only the band that they lie in is drawn.
MAX_LINES = 16


def check_plotting(file: Path) -> None:
    """Before a run that takes long.

    Raises:
        GoodspeedError: there is no matplotlib, or the file's name says no format.
    """
    if file.suffix[1:] not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS[:-1]) + f" or .{FORMATS[-1]}"
        raise GoodspeedError(f"--plot {file}: the name must end with {endings}")
    if importlib.util.find_spec("matplotlib") is None:
        raise GoodspeedError("--plot needs matplotlib: pip install 'goodspeed[plot]'")


def draw(outcome: Outcome, file_format: str) -> bytes:
    """The picture: goodput, draft length, fairness and latency."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "goodspeed"  # the same picture has the same bytes
    from matplotlib import pyplot

    series = outcome.series
    figure, axes = pyplot.subplots(2, 2, figsize=(12, 8), layout="constrained")
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
    written = io.BytesIO()
    metadata = {"Date": None} if file_format == "svg" else None
    figure.savefig(written, format=file_format, metadata=metadata)
    pyplot.close(figure)
    return written.getvalue()


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
