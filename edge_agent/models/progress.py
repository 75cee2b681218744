"""Shows how far a model pull is: a bar on a terminal, plain lines anywhere else.

It writes to the stream it is given and never to standard output, which belongs to results.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_STEP_PERCENT = 25


class PullProgress(Protocol):
    """The stages of a pull, one after the other."""

    def begin_stage(self, title: str, total: int | None = None) -> None:
        """Begin a stage of `total` steps (bytes or tensors; None: unknown)."""

    def update(self, num_done: int) -> None:
        """Tell how many steps of the stage are done."""


class LineProgress:
    """One line for a stage and one for every quarter of it, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._title = ""
        self._total: int | None = None
        self._shown_percent = 0

    def begin_stage(self, title: str, total: int | None = None) -> None:
        self._title, self._total, self._shown_percent = title, total, 0
        self._write(title)

    def update(self, num_done: int) -> None:
        if not self._total:
            return
        percent = min(100, 100 * num_done // self._total)
        percent -= percent % _LINE_STEP_PERCENT
        if percent > self._shown_percent:
            self._shown_percent = percent
            self._write(f"{self._title}: {percent} %")

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


class BarProgress:
    """A bar for every stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._total: int | None = None

    def begin_stage(self, title: str, total: int | None = None) -> None:
        self.finish()
        self._total = total
        self._progress.add_task(title, total=total)

    def update(self, num_done: int) -> None:
        # A length that was only expected must not make the bar overflow.
        completed = num_done if self._total is None else min(num_done, self._total)
        self._progress.update(self._progress.task_ids[-1], completed=completed)

    def finish(self) -> None:
        """Fill the bar of the stage that just ended."""
        if self._progress.task_ids:
            total = self._total or 1
            self._progress.update(self._progress.task_ids[-1], total=total, completed=total)


@contextmanager
def progress_on(stream: TextIO) -> Iterator[PullProgress]:
    """Yield the progress display that fits the stream."""
    if not stream.isatty():
        yield LineProgress(stream)
        return
    # Only here: an agent that gets a draft from its verifier shows no bar, and rich takes 2 MB.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=stream)) as progress:
        bars = BarProgress(progress)
        yield bars
        bars.finish()
