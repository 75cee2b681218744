"""One process of the demo: started with a log of its own, ended when its block is left.

Nothing is killed hard unless it does not end when asked to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 15.0
NUM_LOG_LINES = 15
GRACE_SECONDS = 0.5  # for the end of a process to be noticed


class DemoFailed(Exception):
    """The demo cannot go on; holds the last lines of the log of the program that is to blame."""

    def __init__(self, sentence: str, log: Path | None = None) -> None:
        self.log_lines = [] if log is None else _last_lines(log)
        super().__init__(sentence)


@dataclass(slots=True, eq=False)
class Program:
    """A running process."""

    name: str
    log: Path
    process: asyncio.subprocess.Process
    _is_stopping: bool = False

    def ask_to_stop(self) -> None:
        """Ask it once, and do not wait."""
        if not self._is_stopping and self.process.returncode is None:
            self.process.terminate()
        self._is_stopping = True

    def lower_priority(self, niceness: int) -> None:
        """Let other programs go first; there is no way back without being root."""
        # The group, which it has for itself: on Linux a process's own number is one thread only.
        with suppress(ProcessLookupError):  # it has just ended, and whoever watches it knows why
            os.setpriority(os.PRIO_PGRP, self.process.pid, niceness)


@asynccontextmanager
async def running_program(name: str, command: Sequence[str], log: Path) -> AsyncIterator[Program]:
    """Run a command while the block lasts; what it prints goes to the log.

    Raises:
        DemoFailed: it did not end when asked to.
    """
    with log.open("w") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=_environment(),
            # Ctrl-C is the demo's alone, which ends them in order. Not a new session: Linux gives
            # each of those an equal share of the cores, whatever its niceness (autogroup).
            process_group=0,
        )
    program = Program(name, log, process)
    try:
        yield program
    finally:
        program.ask_to_stop()
        await _end_of(program)


async def output_of(command: Sequence[str]) -> str:
    """What a short command prints.

    Raises:
        DemoFailed: it is not there, or fails.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise DemoFailed(f"{Path(command[0]).name} failed: {err.decode().strip()}")
    return out.decode().strip()


def console_script(name: str) -> str:
    """The path of a script beside this interpreter.

    Raises:
        DemoFailed: it is not installed.
    """
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise DemoFailed(f"there is no {path}: make install")
    return str(path)


def check_running(programs: Sequence[Program]) -> None:
    """Raise DemoFailed if one of the programs has ended."""
    for program in programs:
        code = program.process.returncode
        if code is not None:
            cause = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
            raise DemoFailed(f"{program.name} ended {cause}", program.log)


async def check_alive(programs: Sequence[Program]) -> None:
    """Raise DemoFailed if one of the programs has just ended, which another one noticed first."""
    await asyncio.sleep(GRACE_SECONDS)
    check_running(programs)


async def watch(programs: Sequence[Program]) -> None:
    """Return never; raise DemoFailed when one of the programs ends by itself."""
    ends = [asyncio.create_task(program.process.wait()) for program in programs]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
    check_running(programs)


def free_ports(num_ports: int) -> list[int]:
    """Ports of this machine that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(num_ports)]
    try:
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()


async def _end_of(program: Program) -> None:
    try:
        await asyncio.wait_for(program.process.wait(), STOP_SECONDS)
    except TimeoutError:
        program.process.kill()
        await program.process.wait()
        sentence = f"{program.name} did not end within {STOP_SECONDS:.0f} s and was killed"
        raise DemoFailed(sentence, program.log) from None


def _environment() -> dict[str, str]:
    """Ours, without settings of goodspeed, which would win over the demo's files."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GOODSPEED__")}


def _last_lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-NUM_LOG_LINES:]
