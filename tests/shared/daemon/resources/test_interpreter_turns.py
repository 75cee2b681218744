"""Threads that compute take short turns, and the interpreter is left as it was."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress

import pytest

from shared.daemon.resources.interpreter_turns import SWITCH_SECONDS, short_turns
from tests.support.programs.this_machine import needs_own_processor


def test_turns_are_short_inside_and_as_before_afterwards() -> None:
    before = sys.getswitchinterval()
    with suppress(ValueError), short_turns():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
        raise ValueError
    assert before == sys.getswitchinterval()


def wait_beside_threads_that_compute(num_threads: int) -> float:
    """The median of how long a thread waits for the interpreter when it wakes up, in seconds."""
    is_over = threading.Event()

    def compute() -> None:
        while not is_over.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=compute) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    waits = []
    for _ in range(40):
        asleep_at = time.perf_counter()
        time.sleep(0.001)
        waits.append(time.perf_counter() - asleep_at - 0.001)
    is_over.set()
    for thread in threads:
        thread.join()
    return sorted(waits)[len(waits) // 2]


@needs_own_processor
def test_a_thread_that_wakes_up_waits_less_for_those_that_compute() -> None:
    usual = wait_beside_threads_that_compute(3)
    with short_turns():
        short = wait_beside_threads_that_compute(3)
    assert short < 0.5 * usual
