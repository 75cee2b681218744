"""Telling the service manager how the program is, and pinging it only while work gets on.

A ping proves two things: the event loop ran, and what the worker thread computes (a round, a step
of the draft model) has not taken too long. This module must never know what that is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from shared.daemon.service_manager.notify import ServiceManager

logger = logging.getLogger(__name__)

STATUS_SECONDS = 2.0
# systemd.service(5) asks for twice as often as it looks; once may be late.
PINGS_PER_WATCHDOG = 3


class Watchdog:
    """When to ping: pure.

    What is computed may take as long as the manager waits for a ping, so a program that hangs is
    ended within twice that time.
    """

    def __init__(self, watchdog_seconds: float, now: float) -> None:
        self._limit_seconds = watchdog_seconds
        self._interval_seconds = watchdog_seconds / PINGS_PER_WATCHDOG
        self._next_at = now
        self.is_stuck = False

    def is_due(self, busy_since: float | None, now: float) -> bool:
        """Whether to ping now; `busy_since`: when what is computed began, None: nothing is."""
        self.is_stuck = busy_since is not None and now - busy_since >= self._limit_seconds
        if self.is_stuck or now < self._next_at:
            return False
        self._next_at = now + self._interval_seconds
        return True


async def report(
    manager: ServiceManager,
    status: Callable[[], str],
    busy_since: Callable[[], float | None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Say what the program does, whenever that changed, and ping; ends when cancelled.

    `busy_since`: of `clock`.
    """
    watchdog_seconds = manager.watchdog_seconds
    if not manager.is_there:
        await asyncio.Event().wait()
    watchdog = None if watchdog_seconds is None else Watchdog(watchdog_seconds, clock())
    pause = min(STATUS_SECONDS, (watchdog_seconds or STATUS_SECONDS) / PINGS_PER_WATCHDOG)
    said, said_at, is_told = "", clock(), False
    while True:
        now = clock()
        if watchdog is not None:
            if watchdog.is_due(busy_since(), now):
                manager.ping()
            if watchdog.is_stuck and not is_told:
                logger.error("what is computed takes over %g s: no more pings", watchdog_seconds)
            is_told = watchdog.is_stuck
        if now - said_at >= STATUS_SECONDS:
            sentence, said_at = status(), now
            if sentence != said:
                manager.status(sentence)
            said = sentence
        await sleep(pause)
