"""Taking over the file of tokens whenever it changes: what was revoked ends within a second.

A file that is wrong changes nothing, and is told of once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from shared.errors import ConfigError
from verifier.server.device_tokens import TokenRoles, read_token_roles

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0

_Mark = tuple[int, int, int] | None


async def watch_tokens(
    path: Callable[[], Path],
    take_over: Callable[[TokenRoles], None],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Hand on what the file holds after each change of it; ends when cancelled."""
    known = (path(), _mark(path()))
    while True:
        await sleep(WATCH_SECONDS)
        current = (path(), _mark(path()))
        if current == known:
            continue
        known = current
        try:
            take_over(read_token_roles(current[0]))
        except ConfigError as error:
            logger.error("%s; the tokens stay as they were", error.problems[0])


def _mark(path: Path) -> _Mark:
    """What changes with the content; None: the file is not to be had."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
