"""What was recorded and what the fitted world comes to, side by side."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verifier.recording.calibration import Calibration
from verifier.sim.outcome import Outcome

FIT_PER_CENT = 5.0  # a world that is further off is marked


def error_per_cent(recorded: float, simulated: float) -> float | None:
    """By how much the simulated figure is too high; None: nothing was recorded."""
    return 100 * (simulated / recorded - 1) if recorded else None


def print_calibration(calibration: Calibration, outcome: Outcome, console: Console) -> None:
    """A row for the rounds and one for each device."""
    table = Table(title="recorded and simulated", title_justify="left", title_style="bold")
    for name in ("figure", "recorded", "simulated", "off by"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    milliseconds = 1e3 * calibration.round_seconds, 1e3 * outcome.round_seconds
    _add(table, "milliseconds of a round", *milliseconds)
    simulated = {board.name: board.tokens_per_second for board in outcome.boards}
    for board in calibration.boards:
        name = f"tokens/s of {board.device}, while it had a stream"
        _add(table, name, board.tokens_per_second, simulated[f"{board.device}-1"])
    console.print(table)
    target = calibration.target
    console.print(
        f"rounds: {1e3 * target.fixed_seconds:.2f} ms + {1e3 * target.token_seconds:.3f} ms a "
        f"token, deviation of the logarithm {target.jitter:.2f}; * off by more than "
        f"{FIT_PER_CENT:g} %"
    )


def _add(table: Table, figure: str, recorded: float, simulated: float) -> None:
    off = error_per_cent(recorded, simulated)
    mark = "" if off is None or abs(off) <= FIT_PER_CENT else " *"
    shown = "–" if off is None else f"{off:+.1f} %{mark}"
    table.add_row(escape(figure), f"{recorded:.1f}", f"{simulated:.1f}", shown)
