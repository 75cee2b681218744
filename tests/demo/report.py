"""The demo's end: all results as tables and sentences, on the screen and perhaps in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from tests.demo.chats import BoardResult, PassResult
from tests.demo.figures import num_same
from tests.demo.table import (
    Setting,
    Sheet,
    board_sheet,
    exactness_sentence,
    gain_sentence,
    markdown,
    pass_sheet,
    terminal_table,
    total_sentence,
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that the demo measured; the first pass of `together` is the yardstick."""

    drafts: Mapping[str, str]  # by board
    together: Mapping[str, PassResult]  # by pass
    exact_pass: str  # of `together`, the one whose texts equal the yardstick's
    alone_off: BoardResult
    alone_on: BoardResult


@dataclass(frozen=True, slots=True)
class Report:
    """What people read."""

    sheets: tuple[Sheet, ...]
    sentences: tuple[str, ...]
    notes: tuple[str, ...]  # how it was measured

    def show(self, console: Console) -> None:
        for sheet in self.sheets:
            console.print()
            console.print(terminal_table(sheet))
        for sentence in self.sentences:
            console.print(sentence + "\n", markup=False)
        for note in self.notes:
            console.print(note, markup=False, style="dim")

    def markdown(self) -> str:
        return markdown(self.sheets, (*self.sentences, *self.notes))


def make_report(measured: Measured, setting: Setting, notes: Sequence[str]) -> Report:
    """Tables and sentences; `notes` say how it was measured."""
    together = measured.together
    totals = {name: result.total for name, result in together.items()}
    yardstick = next(iter(together))
    rows = [
        (pass_name, board, measured.drafts[board], result.figures)
        for pass_name, results in together.items()
        for board, result in results.boards.items()
    ]
    exact = together[measured.exact_pass].texts
    off, on = measured.alone_off, measured.alone_on
    return Report(
        sheets=(board_sheet(rows), pass_sheet(totals)),
        sentences=(
            total_sentence(totals, setting.num_cores),
            exactness_sentence(
                yardstick,
                measured.exact_pass,
                num_same(together[yardstick].texts, exact),
                len(exact),
            ),
            gain_sentence(
                next(iter(measured.drafts.values())),
                off.figures,
                on.figures,
                num_same(off.texts, on.texts),
                len(on.texts),
            ),
        ),
        notes=(*notes, setting.sentence()),
    )
