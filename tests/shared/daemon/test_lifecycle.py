"""A program runs until a signal, or until something that it runs ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shared.daemon.lifecycle import (
    COLLECTION_THRESHOLDS,
    STOP_SIGNALS,
    first_of,
    in_daemon_thread,
    rare_collections,
    reload_at_signal,
    run_loop,
    stop_at_signals,
)
from shared.daemon.resources.interpreter_turns import SWITCH_SECONDS
from shared.daemon.service_manager.notify import service_manager
from shared.errors import ConfigError
from tests.support.programs.notify_socket import NotifySocket


class Endless:
    """Runs until it is cancelled, and says so; `ends_with` may be raised then."""

    def __init__(self, ends_with: Exception | None = None) -> None:
        self.name = ""
        self.is_over = False
        self._ends_with = ends_with

    async def run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.name = task.get_name()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.is_over = True
            if self._ends_with is not None:
                raise self._ends_with


async def at_once() -> None:
    pass


async def failing() -> None:
    raise ValueError("broken")


def first(**running: Coroutine[Any, Any, object]) -> str:
    return asyncio.run(first_of(**running))


def test_the_first_to_end_ends_the_others() -> None:
    endless = Endless()
    assert "short" == first(long=endless.run(), short=at_once())
    assert endless.is_over


def test_each_runs_as_a_task_of_its_name() -> None:
    endless = Endless()
    first(long=endless.run(), short=at_once())
    assert "long" == endless.name


def test_of_those_that_end_at_once_the_first_given_counts() -> None:
    assert "a" == first(a=at_once(), b=at_once())


@pytest.mark.parametrize("others", [{}, {"short": at_once}])
def test_an_error_comes_out_when_all_are_over(others: dict[str, Any]) -> None:
    endless = Endless()
    with pytest.raises(ValueError, match="broken"):
        first(long=endless.run(), **{name: run() for name, run in others.items()}, bad=failing())
    assert endless.is_over


def test_an_error_at_the_end_of_a_cancelled_one_is_not_lost() -> None:
    with pytest.raises(OSError, match="goodbye"):
        first(long=Endless(OSError("goodbye")).run(), short=at_once())


def test_cancelling_the_caller_ends_all() -> None:
    one, other = Endless(), Endless()

    async def scenario() -> None:
        waiting = asyncio.create_task(first_of(one=one.run(), other=other.run()))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert waiting.cancelled()

    asyncio.run(scenario())
    assert one.is_over
    assert other.is_over


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_what_runs(number: signal.Signals) -> None:
    endless = Endless()

    async def program() -> str:
        stop = stop_at_signals()
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)
        return await first_of(program=endless.run(), signal=stop.wait())

    assert "signal" == run_loop(program())
    assert endless.is_over


def test_a_program_runs_on_the_fast_loop_and_returns_its_result() -> None:
    async def loop_module() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert "uvloop" == run_loop(loop_module())


def test_beside_a_programs_loop_threads_take_short_turns_at_the_interpreter() -> None:
    async def turn_seconds() -> float:
        return sys.getswitchinterval()

    before = sys.getswitchinterval()
    assert run_loop(turn_seconds()) == pytest.approx(SWITCH_SECONDS)
    assert before == sys.getswitchinterval()


def test_garbage_is_looked_for_seldom_and_never_in_what_was_there() -> None:
    before, num_frozen = gc.get_threshold(), gc.get_freeze_count()
    with rare_collections():
        assert COLLECTION_THRESHOLDS == gc.get_threshold()
        assert gc.get_freeze_count() > num_frozen
    assert before == gc.get_threshold()
    assert 0 == gc.get_freeze_count()


def test_an_error_restores_the_search_for_garbage() -> None:
    before = gc.get_threshold()
    with suppress(ValueError), rare_collections():
        raise ValueError
    assert before == gc.get_threshold()


# --- SIGHUP ---------------------------------------------------------------------------------------


def hang_up(apply: Callable[[], Iterable[str]], directory: Path) -> list[dict[str, str]]:
    """What the manager is told when a program that reloads so gets a SIGHUP."""

    async def run(listener: NotifySocket) -> list[dict[str, str]]:
        reload_at_signal(service_manager(listener.settings()), apply, lambda: "well")
        os.kill(os.getpid(), signal.SIGHUP)
        said: list[dict[str, str]] = []
        while not any("READY" in one for one in said):
            await asyncio.sleep(0.01)
            said += listener.read_all()
        return said

    with NotifySocket(str(directory / "notify")) as listener:
        return asyncio.run(run(listener))


def test_a_hangup_reads_the_settings_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    reloading, ready = hang_up(lambda: ["server.port"], tmp_path)
    assert "1" == reloading["RELOADING"]
    assert {"READY": "1", "STATUS": "well"} == ready
    assert "server.port has changed: that takes effect at the next start" in caplog.text
    assert "settings were read again" in caplog.text


def test_settings_that_are_wrong_end_no_program(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def apply() -> list[str]:
        raise ConfigError(("a.toml:1: no", "a.toml:2: no"))

    assert "1" == hang_up(apply, tmp_path)[-1]["READY"]
    assert "a.toml:2: no" in caplog.text
    assert "settings stay as they were: 2 wrong" in caplog.text


# --- work beside the loop -------------------------------------------------------------------------


def test_the_loop_goes_on_while_a_thread_works() -> None:
    async def run() -> int:
        asked = threading.Event()
        working = asyncio.create_task(in_daemon_thread(lambda: asked.wait(10) and 7))
        await asyncio.sleep(0)
        asked.set()
        return await working

    assert 7 == asyncio.run(run())


def test_what_a_thread_raises_is_raised_where_it_is_awaited() -> None:
    def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        asyncio.run(in_daemon_thread(fail))
