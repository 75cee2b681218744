"""The programs as a person runs them: in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 30.0


class Program:
    """A running program whose standard error is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def line_with(self, words: str) -> str:
        """The first line of standard error that holds these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if words in line:
                return self.lines[-1]
        raise AssertionError(f"no {words!r} in {self.lines}")

    def end(self, number: signal.Signals) -> tuple[int, float]:
        """Send a signal; exit code and the seconds that it took."""
        started_at = time.monotonic()
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=PATIENCE_SECONDS)
        self.lines += rest.splitlines()
        return self.process.returncode, time.monotonic() - started_at


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This one without settings of goodspeed or of a service manager."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GOODSPEED") and name not in ("JOURNAL_STREAM",)
    }
    return kept | dict(extra or {})


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[Program]:
    """`python ARGUMENTS`, killed at the end of the block if it is still there."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            yield Program(process)
        finally:
            process.kill()


def run(arguments: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `python ARGUMENTS`."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr
