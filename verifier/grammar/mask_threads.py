"""Threads that make masks beside the event loop and the target: slow grammars apart from others.

This module must never look into a grammar.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# The library leaves Python's lock alone while it works, so threads are worth their number; more
# than one on any machine, because a grammar shows only in its first mask how slow it is.
LEAST_THREADS, MOST_THREADS = 4, 8

_Result = TypeVar("_Result")


class MaskThreads:
    """Started with the first grammar; `close` waits for what runs."""

    def __init__(self) -> None:
        num_threads = max(LEAST_THREADS, min(MOST_THREADS, (os.cpu_count() or 1) // 2))
        self._quick = ThreadPoolExecutor(num_threads, thread_name_prefix="goodspeed-grammar")
        # However many grammars are slow, they wait for each other and for nothing else.
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="goodspeed-slow-grammar")

    def start(self, job: Callable[[], _Result], *, is_slow: bool) -> Future[_Result]:
        """Run the job when a thread is free."""
        return (self._slow if is_slow else self._quick).submit(job)

    def close(self) -> None:
        """Begin nothing more."""
        for threads in (self._quick, self._slow):
            threads.shutdown(wait=True, cancel_futures=True)
