"""How long one callback of an event loop takes: nothing else on that loop gets on meanwhile.

Measured in processor time of the loop's thread, so that a busy machine makes no test fail; time in
which another thread has the interpreter is not counted, nor is what a callback waits for.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

LIMIT_SECONDS = 0.02  # for one callback, whatever a client sends
NUM_TRIES = 3


@dataclass
class LoopWatch:
    """The longest callback so far."""

    longest_seconds: float = 0.0
    what: str = ""

    def restart(self) -> None:
        self.longest_seconds, self.what = 0.0, ""


@contextmanager
def watched_loops() -> Iterator[LoopWatch]:
    """Watch all loops of asyncio's own kind (uvloop's have no such place to look from)."""
    watch = LoopWatch()
    run = asyncio.Handle._run

    def timed_run(handle: asyncio.Handle) -> None:
        callback = handle._callback  # it forgets it when it is cancelled
        began_at = time.thread_time()
        run(handle)
        seconds = time.thread_time() - began_at
        if seconds > watch.longest_seconds:
            watch.longest_seconds, watch.what = seconds, _name_of(callback)

    gc.collect()
    gc.disable()  # the program looks for garbage rarely, and its tests leave much of it
    try:
        with mock.patch.object(asyncio.Handle, "_run", timed_run):
            yield watch
    finally:
        gc.enable()


def least_of_a_few(scenario: Callable[[LoopWatch], Awaitable[None]]) -> tuple[float, str]:
    """The longest callback of the best run; one that is within the limit is good enough."""

    def run() -> tuple[float, str]:
        with watched_loops() as watch:
            asyncio.run(scenario(watch))  # type: ignore[arg-type]
        return watch.longest_seconds, watch.what

    runs: list[tuple[float, str]] = []
    while len(runs) < NUM_TRIES and (not runs or min(runs)[0] >= LIMIT_SECONDS):
        runs.append(run())
    return min(runs)


def _name_of(callback: object) -> str:
    """Of its task, where it is a step of one; a `repr` would touch what it stands on."""
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        return f"{task.get_name()}: {getattr(task.get_coro(), '__qualname__', '')}"
    return getattr(callback, "__qualname__", type(callback).__name__)
