"""Starts the sandbox's process, gives it jobs and survives its end.

This module must never render a template itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

PROGRAM = Path(__file__).with_name("sandbox.py")
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "TZ")  # of the environment; all others may be secret

Process = subprocess.Popen[bytes]


class Rendered(msgspec.Struct, frozen=True):
    """A prompt, or why there is none."""

    text: str = ""
    reason: str | None = None


class SandboxProcess:
    """One process for all threads, one job at a time; started at the first job."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._lock = threading.Lock()

    def render(self, template: str, renders: Sequence[Mapping[str, object]]) -> list[Rendered]:
        """The template with each of these sets of variables, which must be values of JSON."""
        line = json.dumps({"template": template, "renders": renders}).encode() + b"\n"
        with self._lock:
            answer = self._exchange(line)
        if isinstance(answer, bytes):
            return msgspec.json.decode(answer, type=list[Rendered])
        return [Rendered(reason=answer) for _ in renders]

    def _exchange(self, line: bytes) -> bytes | str:
        """The answer, or the reason why there is none."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._start()
        stdin, stdout = _pipes(process)
        with contextlib.suppress(BrokenPipeError):
            stdin.write(line)
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
            [sys.executable, "-I", str(PROGRAM)],
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
