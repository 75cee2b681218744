"""What all readers of an output share: text that waits until it is clear what it is. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod

from edge_agent.output_parsing.control_marks import without_marks
from edge_agent.output_parsing.said import Part, Said


class BufferedReader(ABC):
    """`feed` text in any pieces, then `close`; the same comes out however it was cut."""

    def __init__(self) -> None:
        self._buffer = ""
        self._said: list[Said] = []

    def feed(self, text: str) -> list[Said]:
        """What is certain with this text."""
        self._buffer += text
        while self._step():
            pass
        return self._take()

    def close(self) -> list[Said]:
        """The rest, at the end of the output."""
        self._finish()
        self._buffer = ""
        return self._take()

    @abstractmethod
    def _step(self) -> bool:
        """Read on in the buffer; False: it needs more text."""

    @abstractmethod
    def _finish(self) -> None:
        """Say what waits in the buffer: no more text comes."""

    def _say(self, part: Part, text: str) -> None:
        text = without_marks(text)
        if text:
            self._said.append(Said(part, text))

    def _skip(self, num_characters: int) -> str:
        """Take the beginning of the buffer out."""
        taken, self._buffer = self._buffer[:num_characters], self._buffer[num_characters:]
        return taken

    def _take(self) -> list[Said]:
        said, self._said = self._said, []
        return said
