"""The outcome of a simulation as tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verifier.sim.outcome import BoardOutcome, Outcome
from verifier.sim.scenario import Scenario

# Of more boards the slowest and the fastest are shown.
MAX_ROWS = 24
# Short enough for 80 columns with names of ten letters.
_COLUMNS = (
    *("tokens /s", "of alone", "accepted", "draft length"),
    *("first token ms", "pause ms p50·p99"),
)


def print_outcome(outcome: Outcome, scenario: Scenario, console: Console) -> None:
    """What the scenario shows, a table of boards, and the figures of all together."""
    if scenario.run.shows:
        console.print(escape(scenario.run.shows))
    console.print(_boards(outcome))
    console.print(_together(outcome))


def _boards(outcome: Outcome) -> Table:
    table = Table(title_justify="left", title_style="bold")
    table.title = f"{outcome.scenario}: policy {outcome.policy}, {outcome.seconds:g} s"
    table.add_column("board", no_wrap=True)
    has_slos = any(board.in_time is not None for board in outcome.boards)
    columns = (*_COLUMNS, "in time") if has_slos else _COLUMNS
    for name in columns:
        table.add_column(name.replace(" ", "\n"), justify="right")
    boards = outcome.boards
    if len(boards) > MAX_ROWS:
        boards = tuple(sorted(boards, key=lambda board: board.of_alone or 0.0))
    for i, board in enumerate(boards):
        if len(boards) <= MAX_ROWS or not MAX_ROWS // 2 <= i < len(boards) - MAX_ROWS // 2:
            table.add_row(*_row(board)[: 1 + len(columns)])
        elif i == MAX_ROWS // 2:
            table.add_row(f"… {len(boards) - MAX_ROWS} more", *[""] * len(columns))
    return table


def _row(board: BoardOutcome) -> tuple[str, ...]:
    first, usual, long = (
        "–" if seconds is None else f"{1e3 * seconds:.0f}"
        for seconds in (board.first_token_seconds, board.pause_p50_seconds, board.pause_p99_seconds)
    )
    return (
        escape(board.name),
        f"{board.tokens_per_second:.1f}",
        _number(board.of_alone, ".2f"),
        _number(board.acceptance, ".0%"),
        _number(board.draft_length, ".1f"),
        first,
        f"{usual}·{long}",
        _number(board.in_time, ".1%"),
    )


def _together(outcome: Outcome) -> Table:
    table = Table(show_header=False)
    table.add_column("figure")
    table.add_column("value")
    mean, least = outcome.of_alone_mean, outcome.of_alone_least
    table.add_row("tokens/s together", f"{outcome.tokens_per_second:.1f}")
    table.add_row(
        "of the target alone",
        f"{_number(mean, '.3f')} (geometric mean), {_number(least, '.3f')} (least)",
    )
    table.add_row("Σ ln tokens/s", _number(outcome.log_goodput, ".2f"))
    table.add_row("Jain index", f"{outcome.jain_index:.3f}")
    table.add_row(
        "rounds",
        f"{outcome.num_rounds:,} of {_milliseconds(outcome.round_seconds)} and "
        f"{outcome.round_tokens:.1f} tokens",
    )
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1e3 * seconds:.0f} ms"
