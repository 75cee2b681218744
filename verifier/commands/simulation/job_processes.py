"""Independent jobs over all processors; outcomes come in the jobs' order, whatever ends first."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

_Job = TypeVar("_Job")
_Outcome = TypeVar("_Outcome")


def in_processes(play: Callable[[_Job], _Outcome], jobs: Sequence[_Job]) -> Iterator[_Outcome]:
    """`play` of each; a process for each processor, or none where there is one.

    After an interrupt those that run are finished, and no other is begun.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if (count or 1) < 2:
        yield from map(play, jobs)
        return
    # Not by fork: this process may have threads.
    context = get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_leave_interrupts) as processes:
        try:
            yield from processes.map(play, jobs)
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_interrupts() -> None:
    """A terminal interrupts all processes of a command; the first one sees to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
