"""One process of tests, benchmarks and demo: started, watched, ended.

It is never killed unless that is asked for, or it does not end when asked to.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.programs.command import ROOT, environment

START_SECONDS = 300.0  # a cold disk, a busy machine, and the measurement of a target's rounds
STOP_SECONDS = 30.0
POLL_SECONDS = 0.02
NUM_LOG_LINES = 15


class ProgramFailed(Exception):
    """A program ended by itself, or does not do what it should; with the last lines of its log."""

    def __init__(self, sentence: str, log_lines: Sequence[str]) -> None:
        self.log_lines = tuple(log_lines[-NUM_LOG_LINES:])
        super().__init__(sentence)
        self.add_note("\n".join(self.log_lines))


class Program:
    """A command in a process of its own, which may be started again after its end.

    What it says on standard error is appended to `log`; standard output goes to `output`, if given.
    As a context manager it runs while the block does.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        output: Path | None = None,
        cores: set[int] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings`: more of the environment."""
        self.name = name
        self.log = log
        self._command = list(command)
        self._output = output or Path(os.devnull)
        self._cores = cores
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._is_asked_to_stop = False
        self._num_lines_read = 0

    @property
    def process_id(self) -> int:
        """Of the process started last."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None before its start and while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self.exit_code is None

    @property
    def lines(self) -> list[str]:
        """The whole lines of its log, of all starts."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def start(self) -> None:
        """Start it without waiting for anything."""
        assert not self.is_running, f"{self.name} runs already"
        pin = None if self._cores is None else functools.partial(_pin, self._cores)
        with self.log.open("ab") as log, self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment(self._settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                preexec_fn=pin,
                # Ctrl-C goes to us alone, who end it in order. Not a new session: Linux gives each
                # of those an equal share of the cores, whatever its niceness (autogroup).
                process_group=0,
            )
        self._is_asked_to_stop = False

    def wait_for(
        self, condition: Callable[[], bool], failing: str, seconds: float = START_SECONDS
    ) -> None:
        """Return as soon as `condition()` holds.

        Raises:
            ProgramFailed: it ended before that, or `failing` for too long.
        """
        deadline = time.monotonic() + seconds
        while True:
            has_ended, is_late = not self.is_running, time.monotonic() > deadline
            if condition():
                return
            if has_ended:
                self.check_running()
            if is_late:
                raise self.failure(f"{self.name} {failing} within {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def line_with(self, words: str) -> str:
        """The next line of its log that holds these words; waits for it.

        Raises:
            ProgramFailed: it ended, or took too long, without such a line.
        """
        found: list[str] = []

        def reads_it() -> bool:
            for line in self.lines[self._num_lines_read :]:
                self._num_lines_read += 1
                if words in line:
                    found.append(line)
                    return True
            return False

        self.wait_for(reads_it, f"did not say {words!r}")
        return found[0]

    def check_running(self) -> None:
        """Raise ProgramFailed if it has ended."""
        code = self.exit_code
        if code is not None:
            cause = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
            raise self.failure(f"{self.name} ended {cause}")

    def failure(self, sentence: str) -> ProgramFailed:
        """An exception for the caller to raise, with the end of the log."""
        return ProgramFailed(sentence, self.lines)

    def lower_priority(self, niceness: int) -> None:
        """Let other programs go first; there is no way back without being root."""
        # The group, which it has for itself: on Linux a process's own number is one thread only.
        with suppress(ProcessLookupError):  # it has just ended, and whoever watches it knows why
            os.setpriority(os.PRIO_PGRP, self.process_id, niceness)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None, f"{self.name} was not started"
        self._process.send_signal(number)

    def end(self, number: signal.Signals) -> tuple[int, float]:
        """Send a signal that ends it; exit code and the seconds that it took.

        Raises:
            ProgramFailed: it did not end in time, and was killed.
        """
        started_at = time.monotonic()
        self.send(number)
        return self._wait(STOP_SECONDS), time.monotonic() - started_at

    def kill(self) -> None:
        """End it as the kernel does: no goodbye, no clean-up."""
        self.end(signal.SIGKILL)

    def ask_to_stop(self) -> None:
        """Ask it once to end as a person does, if it runs, and do not wait."""
        if self.is_running and not self._is_asked_to_stop:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        self._is_asked_to_stop = True

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End it as a person does, if it runs; it has so many seconds.

        Raises:
            ProgramFailed: it did not end in time, and was killed.
        """
        if self.is_running:
            self.ask_to_stop()
            self._wait(seconds)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait(self, seconds: float) -> int:
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            sentence = f"{self.name} did not end within {seconds:g} s and was killed"
            raise self.failure(sentence) from None


def _pin(cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)
