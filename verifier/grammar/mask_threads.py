"""Threads that make masks beside the event loop and the target: slow grammars apart from others.

This module must never look into a grammar.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

# The library leaves Python's lock alone while it works, so threads are worth their number; more
# than one on any machine, because a grammar shows only in its first mask how slow it is.
LEAST_THREADS, MOST_THREADS = 4, 8
# A job takes 0.05 ms and to wake a thread for it as long: one that is awake does a few.
_JOBS_OF_A_THREAD = 4

_Result = TypeVar("_Result")


class MaskThreads:
    """Threads are started as they are needed; `close` waits for what runs."""

    def __init__(self) -> None:
        self._num_threads = max(LEAST_THREADS, min(MOST_THREADS, (os.cpu_count() or 1) // 2))
        self._quick = ThreadPoolExecutor(self._num_threads, thread_name_prefix="goodspeed-grammar")
        # However many grammars are slow, they wait for each other and for nothing else.
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="goodspeed-slow-grammar")
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._num_awake = 0

    def start(self, job: Callable[[], _Result], *, is_slow: bool) -> Future[_Result]:
        """Run the job, which raises nothing, when a thread is free; a quick one after `wake`.

        So that no thread has Python's lock while a round is planned and sent to a GPU: 16 streams
        made rounds of 10.5 ms 0.3 ms longer this way, and 0.7 ms when each job woke a thread (2
        cores of an EPYC 9005, 2026-11).
        """
        if is_slow:
            return self._slow.submit(job)
        future: Future[_Result] = Future()
        with self._lock:
            self._waiting.append((future, job))
        return future

    def wake(self) -> None:
        """Let as many threads work as there are jobs for."""
        self._wake(len(self._waiting) // _JOBS_OF_A_THREAD + 1)

    def wake_another(self) -> None:
        """A job is late: perhaps it waits behind one that takes long."""
        self._wake(self._num_awake + 1)

    def _wake(self, num_threads: int) -> None:
        with self._lock:
            num_wanted = min(num_threads, self._num_threads) if self._waiting else 0
            num_more = max(num_wanted - self._num_awake, 0)
            self._num_awake += num_more
        for _ in range(num_more):
            self._quick.submit(self._work)

    def close(self) -> None:
        """Begin nothing more."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            future.cancel()
        for threads in (self._quick, self._slow):
            threads.shutdown(wait=True, cancel_futures=True)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._num_awake -= 1
                    return
                future, job = self._waiting.popleft()
            future.set_result(job())
