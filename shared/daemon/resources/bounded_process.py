"""A process that does jobs of strangers: it is started, is given jobs, and its end is survived.

Its program bounds its own memory and time. One line comes in for each job, and one goes out. This
module must never know what a job is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import IO

_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "TZ")  # of the environment; all others may be secret

Process = subprocess.Popen[bytes]


class BoundedProcess:
    """One process for all threads, one job at a time; started at the first job.

    Its program is run with `python -I`, so it must never import another module of the project.
    """

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process: Process | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the process that runs, if one does."""
        return None if self._process is None else self._process.pid

    def answer(self, job: bytes) -> bytes | str:
        """The line that answers a job, a line too; or the reason why there is none."""
        with self._lock:
            return self._exchange(job)

    def close(self) -> None:
        """End the process; another job would start it again."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                _end(process)

    def _exchange(self, job: bytes) -> bytes | str:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._start()
        stdin, stdout = _pipes(process)
        with contextlib.suppress(BrokenPipeError):
            stdin.write(job)
            stdin.flush()
        if (answer := stdout.readline()).endswith(b"\n"):
            return answer
        _end(process)
        self._process = None
        if process.returncode == -signal.SIGPROF:
            return "it takes too long"
        return f"its process ended with status {process.returncode}"

    def _start(self) -> Process:
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-I", str(self._program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept,
            cwd="/",
        )
        weakref.finalize(self, _end, process)
        return process


def _pipes(process: Process) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _end(process: Process) -> None:
    for pipe in _pipes(process):
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
    process.kill()
    process.wait()
