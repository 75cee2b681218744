"""Tells thoughts that stand between two marks, at the beginning of an output, from its text. Pure.

Marks further behind are text: an answer may be about them.
"""

from __future__ import annotations

from edge_agent.output_parsing.buffered_reader import BufferedReader
from edge_agent.output_parsing.control_marks import (
    certain_length,
    find_mark,
    may_become,
    starts_with_mark,
)
from edge_agent.output_parsing.said import Said


class ReasoningReader(BufferedReader):
    """Says `reasoning` and `text`; the text still has its marks, for the next reader.

    Space around thoughts belongs to their form and is left out.
    """

    def __init__(self, opening: str, closing: str, label: str = "") -> None:
        """`label`: what the target writes behind the opening, which is no thought."""
        super().__init__()
        self._opening = opening
        self._closing = closing
        self._label = label
        self._state = self._read_start
        self._space = ""  # of thoughts; said with what comes behind

    @property
    def is_reasoning(self) -> bool:
        """Whether what comes next is a thought."""
        return self._state in (self._read_label, self._read_thoughts)

    def _step(self) -> bool:
        return self._state()

    def _read_start(self) -> bool:
        rest = self._buffer.lstrip()
        found = starts_with_mark(rest, (self._opening,))
        if found is not None:
            self._buffer = rest[found.stop :]
            self._state = self._read_label
            return True
        if not rest or may_become(rest, (self._opening,)):
            return False
        self._state = self._read_text
        return True

    def _read_label(self) -> bool:
        rest = self._buffer.lstrip()
        if not rest or may_become(rest, (self._label,)):
            return False
        self._buffer = rest.removeprefix(self._label).lstrip() if self._label else rest
        self._state = self._read_thoughts
        return True

    def _read_thoughts(self) -> bool:
        found = find_mark(self._buffer, (self._closing,))
        if found is None:
            self._think(self._skip(certain_length(self._buffer, (self._closing,))))
            return False
        self._think(self._skip(found.start))
        self._skip(found.stop - found.start)
        self._space = ""
        self._state = self._read_space
        return True

    def _read_space(self) -> bool:
        self._buffer = self._buffer.lstrip()
        if not self._buffer:
            return False
        self._state = self._read_text
        return True

    def _read_text(self) -> bool:
        if self._buffer:
            self._said.append(Said("text", self._skip(len(self._buffer))))
        return False

    def _think(self, text: str) -> None:
        text = self._space + text
        thought = text.rstrip()
        self._space = text[len(thought) :]
        self._say("reasoning", thought)

    def _finish(self) -> None:
        if self._state == self._read_thoughts:
            self._think(self._buffer)
        elif self._state in (self._read_start, self._read_text) and self._buffer:
            self._said.append(Said("text", self._buffer))
