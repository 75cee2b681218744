"""Sees that one worker is there, and brings it back when it is not, for as long as rounds run.

This module must never know what becomes of streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from shared.errors import GoodspeedError
from verifier.engine.worker import Worker, WorkerState
from verifier.workers.remote_target import RemoteTarget

logger = logging.getLogger(__name__)

# How often it is looked whether an idle worker has left; one with a round in hand says so itself.
WATCH_SECONDS = 0.25
# Between attempts to bring a worker back, doubled from the first to the last.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.1, 5.0

Join = Callable[[Worker, RemoteTarget], None]


async def keep_reached(worker: Worker, join: Join, is_stopping: Callable[[], bool]) -> None:
    """Until it is cancelled; `join` gets the worker with its target when it is back."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_SECONDS):
                await worker.change.wait()
        worker.change.clear()
        if is_stopping():
            continue
        try:
            await _look_after(worker, join)
        except Exception:  # of ours: the others are looked after, and this one again
            logger.exception("worker %d cannot be looked after", worker.number)
            await asyncio.sleep(LAST_PAUSE_SECONDS)


async def _look_after(worker: Worker, join: Join) -> None:
    if worker.state is WorkerState.DRAINED:
        if worker.is_lost_by_intent:
            await asyncio.to_thread(worker.end_process)
        if worker.target.is_lost():  # its operator has ended it
            await _bring_back(worker, join)
    elif worker.state is WorkerState.LOST:
        await _bring_back(worker, join)
    elif worker.engine.round_started_at is None and worker.target.is_lost():
        worker.engine.hold()


async def _bring_back(worker: Worker, join: Join) -> None:
    worker.state = WorkerState.LOST
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            target = await worker.reach()
        except GoodspeedError as error:
            if str(error) != worker.because:
                logger.warning("worker %d is not back: %s", worker.number, error)
            worker.because = str(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_SECONDS)
        else:
            join(worker, target)
            return
