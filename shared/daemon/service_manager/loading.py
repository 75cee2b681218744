"""A program that loads a model: what it does and how far it is, told while its loop goes on.

The service manager gives it time as long as the loading thread works; one that hangs is ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from shared.daemon.lifecycle import in_daemon_thread
from shared.daemon.resources.child_time import seconds_of_children
from shared.daemon.service_manager.notify import ServiceManager

logger = logging.getLogger(__name__)

TELL_SECONDS = 1.0
# The manager waits so much longer for a program that was at work just now: more than a board waits
# between two attempts to reach its verifier, which it does while it has no vocabulary.
EXTENSION_SECONDS = 60.0
# Of processor time, in a second, of all threads but the loop's.
LEAST_WORK_SECONDS = 0.001

_Result = TypeVar("_Result")


class Loading:
    """What is being loaded, and how much of it is done."""

    def __init__(self, manager: ServiceManager, step: str = "starting") -> None:
        self._manager = manager
        self._step = step
        self._fraction: float | None = None

    @property
    def sentence(self) -> str:
        """One line for the operator, such as `measuring 40 rounds of the target (43 %)`."""
        return self._step if self.percent is None else f"{self._step} ({self.percent} %)"

    @property
    def percent(self) -> int | None:
        """How much of the step is done, where that is known."""
        return None if self._fraction is None else int(100 * self._fraction)

    def tell(self, step: str) -> None:
        """A step began that takes long; in any thread."""
        logger.info("%s", step)
        self._step, self._fraction = step, None

    def advance(self, fraction: float) -> None:
        """So much of the step is done, from 0 to 1; in any thread."""
        self._fraction = fraction

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """What `work` loads, in a thread of its own.

        Raises:
            BaseException: what `work` raises.
        """
        telling = asyncio.create_task(self._keep_telling(), name="tell of loading")
        await asyncio.sleep(0)  # the first step is told, however short it is
        try:
            return await in_daemon_thread(work)
        finally:
            telling.cancel()
            await asyncio.wait([telling])

    async def _keep_telling(self) -> NoReturn:
        told, worked = "", 0.0
        while True:
            worked_before, worked = worked, _seconds_worked()
            if worked - worked_before >= LEAST_WORK_SECONDS:
                self._manager.extend_start(EXTENSION_SECONDS)
            if self.sentence != told:
                told = self.sentence
                self._manager.status(told)
            await asyncio.sleep(TELL_SECONDS)


def _seconds_worked() -> float:
    """Processor time of all threads but this one, which only looks, and of child processes."""
    return time.process_time() - time.thread_time() + seconds_of_children()
