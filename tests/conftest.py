"""What every test must leave as it found it: threads and child processes.

Tasks and timers need no guard here: asynchronous tests run under `asyncio.run`, which ends them.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from verifier.chat_template.sandbox_process import PROGRAM

if find_spec("torch") is not None:  # a board has none, and its own tests need none
    import tests.support.models.triton_kernels  # noqa: F401  # before Triton is imported

# A shell starts what is to run in the background with SIGINT ignored, and programs inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Both measure the machine by the wall clock: on shared cores a pause of a second is no defect.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# A thread or process that is about to end gets this long; the slowest seen took 0.1 s.
GRACE_SECONDS = 2.0


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread or a child process running, save a shared target's own."""
    threads_before = set(threading.enumerate())
    children_before = _child_ids()
    yield
    deadline = time.monotonic() + GRACE_SECONDS
    for thread in _left_threads(threads_before):
        thread.join(max(0.0, deadline - time.monotonic()))
    while _child_ids() - children_before and time.monotonic() < deadline:
        time.sleep(0.01)
    threads = [thread.name for thread in _left_threads(threads_before)]
    children = [_command_line(child) for child in _child_ids() - children_before]
    assert ([], []) == (threads, children), "left behind: threads, child processes"


def _left_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """Ours, and any that would keep the program from ending; libraries may keep daemon threads."""
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and (not thread.daemon or thread.name.startswith("goodspeed-"))
    ]


def _child_ids() -> set[int]:
    """Children of this process, those included that ended and were never waited for (Linux)."""
    ids: set[int] = set()
    for children in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        try:
            ids.update(map(int, children.read_text().split()))
        except FileNotFoundError:  # that thread has just ended
            continue
    return {process_id for process_id in ids if not _is_sandbox(process_id)}


def _is_sandbox(process_id: int) -> bool:
    """Whether it belongs to a target that tests share; it ends with that one, as its tests show."""
    return f" {PROGRAM} " in _command_line(process_id)


def _command_line(process_id: int) -> str:
    try:
        command = Path(f"/proc/{process_id}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        command = ""
    return f"{process_id} {command or '(ended, not waited for)'}"
