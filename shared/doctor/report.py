"""Shows findings as they come: lines for people, one JSON object for programs.

It must never write anything but findings to standard output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from shared.daemon.peer_text import terminal_text
from shared.doctor.findings import Finding, exit_code, to_json, to_lines


class Report:
    """Findings go to `output`; what takes a while is told on `progress`."""

    def __init__(self, output: TextIO, progress: TextIO, as_json: bool) -> None:
        self._output = output
        self._progress = progress
        self._as_json = as_json
        self._told = ""  # the line on a terminal that the next one replaces

    def tell(self, sentence: str) -> None:
        """Say what is about to take a while."""
        if not self._progress.isatty():
            print(f"{sentence} …", file=self._progress, flush=True)
            return
        self._clear()
        self._told = f"{sentence} …"
        print(self._told, end="", file=self._progress, flush=True)

    def show(self, findings: Iterator[Finding]) -> int:
        """Show them as they come; the exit code."""
        found = []
        for finding in findings:
            found.append(finding)
            if not self._as_json:
                self._clear()
                for line in to_lines(finding):
                    print(terminal_text(line), file=self._output, flush=True)
        self._clear()
        if self._as_json:
            print(to_json(found), file=self._output)
        return exit_code(found)

    def _clear(self) -> None:
        if self._told:
            print(f"\r{' ' * len(self._told)}\r", end="", file=self._progress, flush=True)
            self._told = ""
