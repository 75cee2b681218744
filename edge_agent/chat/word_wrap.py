"""Text that streams onto a terminal, without words broken at its edge.

A word appears as soon as its first piece is there; when it turns out too long for its line, what is
there of it is taken back and put on the next one.
"""

from __future__ import annotations

import re

from rich.cells import cell_len

_TAB_CELLS = 8
_EAST_ASIAN = "\u2e80-\u9fff\uac00-\ud7af\uff00-\uff60"  # a line may be broken beside each of these
_PARTS = re.compile(rf"\n|[^\S\n]+|[{_EAST_ASIAN}]|[^\s{_EAST_ASIAN}]+")

Style = tuple[str, str]  # escape sequences before and after a word
PLAIN: Style = ("", "")


class WordWrap:
    """Where the cursor is, and the word that it stands behind."""

    def __init__(self) -> None:
        self.column = 0
        self._word = ""  # with its escape sequences
        self._word_cells = 0

    def place(self, text: str, style: Style, width: int) -> str:
        """What to write so that the text appears, in lines of less than `width` cells."""
        return "".join(self._place_part(part, style, width) for part in _PARTS.findall(text))

    def _place_part(self, part: str, style: Style, width: int) -> str:
        if part == "\n":
            self._move_to(0)
            return part
        if part.isspace():
            self._move_to(self._column_behind(part))
            return part
        styled = style[0] + part + style[1]
        cells = cell_len(part)
        if re.match(f"[{_EAST_ASIAN}]", part):
            self._move_to(self.column)
        # The last cell stays free: behind it a terminal's cursor is neither on this line nor the
        # next.
        is_over = self.column + cells >= width
        if is_over and self.column > self._word_cells and self._word_cells + cells < width:
            taken_back = f"\x1b[{self._word_cells}D\x1b[K" if self._word_cells else ""
            placed = taken_back + "\n" + self._word + styled
            self.column = self._word_cells
        else:
            placed = styled
        self.column += cells
        self._word += styled
        self._word_cells += cells
        return placed

    def _column_behind(self, spaces: str) -> int:
        column = self.column
        for space in spaces:
            column += _TAB_CELLS - column % _TAB_CELLS if space == "\t" else 1
        return column

    def _move_to(self, column: int) -> None:
        """A new word begins here."""
        self.column = column
        self._word = ""
        self._word_cells = 0
