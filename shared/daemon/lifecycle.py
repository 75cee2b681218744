"""How long a program runs: until a signal, or until what it runs ends by itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stop_at_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set, from now on for the running loop."""
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def run_until(stop: asyncio.Event, running: Coroutine[Any, Any, None], name: str) -> None:
    """Run a task of this name until it ends or `stop` is set; raises what ended it."""
    task = asyncio.create_task(running, name=name)
    stopping = asyncio.create_task(stop.wait(), name="stop")
    done, pending = await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
    for one in pending:
        one.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    if task in done:
        task.result()
