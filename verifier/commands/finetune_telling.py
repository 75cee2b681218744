"""How `goodspeed-verifier finetune` tells a person how it goes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from verifier.finetune.order import Tell

if TYPE_CHECKING:
    from rich.progress import Progress


@contextlib.contextmanager
def telling() -> Iterator[Tell]:
    """A bar on a terminal, a line for each stage elsewhere; on standard error."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        yield _Bar(bar)


class _Lines:
    """Implements `verifier.finetune.order.Tell` for logs and pipes."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def stage(self, title: str) -> None:
        self.say(title)

    def advance(self, fraction: float) -> None:
        """Lines are for what has been reached."""

    def say(self, sentence: str) -> None:
        click.echo(f"[{time.monotonic() - self._started:6.1f}] {sentence}", err=True)


class _Bar:
    """Implements `verifier.finetune.order.Tell` on a terminal."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar

    def stage(self, title: str) -> None:
        for task in self._bar.task_ids:
            self._bar.update(task, completed=1.0)
        self._bar.add_task(title, total=1.0)

    def advance(self, fraction: float) -> None:
        self._bar.update(self._bar.task_ids[-1], completed=fraction)

    def say(self, sentence: str) -> None:
        self._bar.console.print(sentence, markup=False, highlight=False)
