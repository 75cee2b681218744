"""How long a program runs: until a signal, or until one of the things that it runs ends by itself.

SIGHUP lets it read its settings again: all of them that may change, or none.

It must never know what the program is for.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

from shared.daemon.resources.interpreter_turns import short_turns
from shared.daemon.service_manager.notify import ServiceManager
from shared.errors import ConfigError

logger = logging.getLogger(__name__)

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Python looks for garbage cycles whenever this many objects more are alive; they come from
# connections and errors, never from rounds. 10,000 objects take 3 ms. With Python's own 700, 10, 10
# every object was looked at each 17 rounds of 1,000 streams, for 34 ms at most; torch and
# transformers alone take 0.2 s (2 busy cores, 2026-11).
COLLECTION_THRESHOLDS = (10_000, 20, 100)

_LOADING_THREAD = "goodspeed-loading"
# For a thread whose work is done to be gone.
_THREAD_END_SECONDS = 0.5

_Result = TypeVar("_Result")


def run_loop(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a program's coroutine to its end, on a fast event loop that threads hardly hold up."""
    import uvloop  # only where something runs: the command line's help does not wait for it

    with short_turns(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def stop_at_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set, from now on for the running loop."""
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def reload_at_signal(
    manager: ServiceManager, apply: Callable[[], Iterable[str]], status: Callable[[], str]
) -> None:
    """Call `apply` at every SIGHUP from now on, for the running loop.

    It reads the settings and gives the keys that changed but wait for the next start; on a
    ConfigError nothing has changed. On a terminal SIGHUP says that the terminal is gone: there it
    ends the program as ever.
    """
    if not manager.is_there and sys.stderr.isatty():
        return

    def reload() -> None:
        manager.reloading()
        _apply(apply)
        manager.ready(status())

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


def _apply(apply: Callable[[], Iterable[str]]) -> None:
    try:
        waiting = tuple(apply())
    except ConfigError as error:
        for problem in error.problems:
            logger.error("%s", problem)
        logger.error("settings stay as they were: %d wrong", len(error.problems))
        return
    for key in waiting:
        logger.warning("%s has changed: that takes effect at the next start", key)
    logger.info("settings were read again")


async def first_of(**running: Coroutine[Any, Any, object]) -> str:
    """Run them side by side until one ends, and return its name; the others are cancelled.

    All are over when it returns, also when it is cancelled itself. Each is a task of its name; of
    several that end at once the one that was given first counts.

    Raises:
        BaseException: what ended the first of them with an error.
    """
    tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in running.items()]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(task.get_name() for task in tasks if task.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
    return first


async def in_daemon_thread(work: Callable[[], _Result]) -> _Result:
    """What `work` gives, computed beside the loop; a program that ends does not wait for it.

    Raises:
        BaseException: what `work` raises.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Result] = loop.create_future()

    def settle(result: _Result | None, error: BaseException | None) -> None:
        if outcome.done():  # cancelled
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(cast(_Result, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - raised where it is awaited
            error = raised
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=_LOADING_THREAD, daemon=True).start()
    return await outcome


def end_if_loading(code: int) -> None:
    """End the process here and now if a thread of `in_daemon_thread` is still at work.

    Python would take that thread down in the midst of native code; of torch's that aborts the
    process: another exit code, a core dump, and a line that tells the user nothing.
    """
    loading = [thread for thread in threading.enumerate() if thread.name == _LOADING_THREAD]
    for thread in loading:
        thread.join(_THREAD_END_SECONDS)  # one that has just raised what ends the process
    if any(thread.is_alive() for thread in loading):
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # its reader is gone
                stream.flush()
        os._exit(code)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let Python seldom stop to look for garbage, and never look at what was there before.

    Torch and transformers are 200,000 objects that stay.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*COLLECTION_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
