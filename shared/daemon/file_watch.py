"""Taking over a file whenever it changes, by the running program.

A file that is wrong changes nothing, and is told of once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from shared.errors import ConfigError

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0

_Mark = tuple[int, int, int] | None


async def watch_file(
    path: Callable[[], Path],
    take_over: Callable[[Path], None],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Call `take_over` after each change of the file; ends when cancelled.

    It reads the file, and where that is wrong raises a ConfigError.
    """
    known = (path(), _mark(path()))
    while True:
        await sleep(WATCH_SECONDS)
        current = (path(), _mark(path()))
        if current == known:
            continue
        known = current
        try:
            take_over(current[0])
        except ConfigError as error:
            logger.error("%s; all stays as it was", error.problems[0])


def _mark(path: Path) -> _Mark:
    """What changes with the content; None: the file is not to be had."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
