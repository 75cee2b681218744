"""The demo's tables and sentences, once as values, then for the terminal or as Markdown.

This module must never compute a figure (`demo_figures` does) and never writes anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from rich import box
from rich.table import Table

from tests.demo.figures import BoardFigures, PassFigures

_NOTHING = "–"


class Sheet(msgspec.Struct, frozen=True):
    """A table of texts; the columns after the first `num_names` are figures.

    A line feed in a column's name is where a terminal breaks it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_names: int


class Setting(msgspec.Struct, frozen=True):
    """What the figures were measured on."""

    processor: str
    num_cores: int
    load: float  # average of the minute before
    date: str
    commit: str | None

    def sentence(self) -> str:
        """One line for under a table."""
        at_commit = f", commit {self.commit}" if self.commit else ""
        return (
            f"Real weights, real processes and sockets, one machine: {self.processor}, "
            f"{self.num_cores} cores for all of them (load average before the start: "
            f"{self.load:.1f}), {self.date}{at_commit}."
        )


def board_sheet(rows: Sequence[tuple[str, str, str, BoardFigures]]) -> Sheet:
    """A row for each (pass, board, draft)."""
    return Sheet(
        title="Each board",
        columns=(
            *("speculation", "board", "draft", "accepted", "draft\nlength"),
            *("tokens\n/round", "tokens\n/s", "bytes\n/token", "first\ntoken"),
        ),
        rows=tuple(
            (
                *(pass_name, board, draft),
                _percent(figures.acceptance),
                _NOTHING if figures.draft_length is None else f"{figures.draft_length:.1f}",
                f"{figures.tokens_per_round:.2f}",
                f"{figures.tokens_per_second:.1f}",
                f"{figures.wire_bytes_per_token:.0f}",
                f"{figures.first_token_seconds:.2f} s",
            )
            for pass_name, board, draft, figures in rows
        ),
        num_names=3,
    )


def pass_sheet(passes: Mapping[str, PassFigures]) -> Sheet:
    """A row for each pass of all boards."""
    return Sheet(
        title="All boards together",
        columns=(
            *("speculation", "tokens\n/s", "Jain\nindex", "Σ log\ngoodput", "one\nround"),
            "tokens\nin it",
        ),
        rows=tuple(
            (
                name,
                f"{figures.tokens_per_second:.1f}",
                f"{figures.jain_index:.3f}",
                f"{figures.log_goodput:.2f}",
                f"{figures.seconds_per_round * 1e3:.0f} ms",
                f"{figures.tokens_per_round:.1f}",
            )
            for name, figures in passes.items()
        ),
        num_names=1,
    )


def gain_sentence(
    draft: str, off: BoardFigures, on: BoardFigures, num_same_answers: int, num_answers: int
) -> str:
    """What one board alone gains."""
    if on.acceptance is None:
        return (
            f"One board alone, greedy, {draft}: no draft came in time, as other programs kept "
            "the cores busy; no gain was measured."
        )
    return (
        f"One board alone, greedy, {draft}: {on.tokens_per_second:.1f} tokens/s with speculation, "
        f"{off.tokens_per_second:.1f} without it on the same verifier, "
        f"{on.tokens_per_second / off.tokens_per_second:.2f} times as fast "
        f"({_percent(on.acceptance)} accepted, {on.tokens_per_round:.2f} tokens/round); "
        f"{num_same_answers} of {num_answers} answers are the same letter for letter."
    )


def exactness_sentence(off_name: str, name: str, num_same_answers: int, num_answers: int) -> str:
    """Whether drafts left the text alone."""
    return (
        f"{num_same_answers} of {num_answers} answers in {name} are the same letter for letter as "
        f"with speculation {off_name} and the same seed."
    )


def total_sentence(passes: Mapping[str, PassFigures], num_cores: int) -> str:
    """Whether all boards gain together, and why not; the first pass is without drafts."""
    off_name, off = next(iter(passes.items()))
    others = {name: figures for name, figures in passes.items() if name != off_name}
    totals = " and ".join(f"{f.tokens_per_second:.1f} ({name})" for name, f in others.items())
    sentence = (
        f"Together: {totals} tokens/s, against {off.tokens_per_second:.1f} with speculation "
        f"{off_name}. "
    )
    less = {
        name: figures
        for name, figures in others.items()
        if figures.tokens_per_second < off.tokens_per_second
    }
    if not less:
        return sentence + "Speculation pays even with all programs on one machine."
    rounds = " and ".join(
        f"{f.seconds_per_round * 1e3:.0f} ms ({name})" for name, f in less.items()
    )
    return sentence + (
        f"Less in {' and '.join(less)}, because all boards share {num_cores} cores with the "
        "verifier: what drafting takes is missing there. A round took "
        f"{off.seconds_per_round * 1e3:.0f} ms with speculation {off_name} and {rounds} with "
        "drafts. Boards that are machines of their own take nothing from it."
    )


def terminal_table(sheet: Sheet) -> Table:
    """The sheet for a terminal of 80 columns or more."""
    table = Table(
        title=sheet.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for i, column in enumerate(sheet.columns):
        is_name = i < sheet.num_names
        table.add_column(
            column, justify="left" if is_name else "right", no_wrap=is_name, vertical="bottom"
        )
    last_name = None
    for row in sheet.rows:
        if last_name is not None and row[0] != last_name and sheet.num_names > 1:
            table.add_section()
        last_name = row[0]
        table.add_row(*row)
    return table


def markdown(sheets: Sequence[Sheet], sentences: Sequence[str]) -> str:
    """Tables and sentences as Markdown."""
    return "\n\n".join([*map(_markdown_table, sheets), *sentences]) + "\n"


def _markdown_table(sheet: Sheet) -> str:
    rules = ["---" if i < sheet.num_names else "---:" for i in range(len(sheet.columns))]
    heads = [column.replace("\n/", "/").replace("\n", " ") for column in sheet.columns]
    lines = [heads, rules, *sheet.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float | None) -> str:
    return _NOTHING if share is None else f"{share:.0%}".replace("%", " %")
