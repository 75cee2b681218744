"""Noticing that a program of the demo has ended, while everything else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.support.programs.program import Program

WATCH_SECONDS = 0.1
GRACE_SECONDS = 0.5  # for the end of a process to be noticed


class DemoFailed(Exception):
    """The demo cannot go on, though no program is to blame."""


async def check_alive(programs: Sequence[Program]) -> None:
    """Raise ProgramFailed if one of the programs has just ended, which another noticed first."""
    await asyncio.sleep(GRACE_SECONDS)
    for program in programs:
        program.check_running()


async def watch(programs: Sequence[Program]) -> None:
    """Return never; raise ProgramFailed when one of the programs ends by itself."""
    while True:
        for program in programs:
            program.check_running()
        await asyncio.sleep(WATCH_SECONDS)
