"""What a program tells while it loads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.daemon.service_manager import loading
from shared.daemon.service_manager.loading import Loading
from shared.daemon.service_manager.notify import service_manager
from shared.errors import ModelError
from tests.support.programs.notify_socket import NotifySocket


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifySocket]:
    monkeypatch.setattr(loading, "TELL_SECONDS", 0.02)
    with NotifySocket(str(tmp_path / "notify")) as opened:
        yield opened


def loaded(listener: NotifySocket, work: Callable[[Loading], object]) -> object:
    made = Loading(service_manager(listener.settings()))
    return asyncio.run(made.run(lambda: work(made)))


def test_steps_and_percentages_are_told(listener: NotifySocket) -> None:
    def work(made: Loading) -> str:
        made.tell("loading a model")
        listener.next_with("STATUS", "loading a model")
        made.tell("measuring rounds")
        made.advance(0.436)
        return listener.next_with("STATUS", "measuring")["STATUS"]

    assert "measuring rounds (43 %)" == loaded(listener, work)


def test_a_thread_that_works_gets_more_time(listener: NotifySocket) -> None:
    def work(_: Loading) -> int:
        ends_at = time.monotonic() + 0.3
        while time.monotonic() < ends_at:
            sum(range(10_000))
        return sum("EXTEND_TIMEOUT_USEC" in said for said in listener.read_all())

    assert loaded(listener, work)


def test_a_thread_that_hangs_gets_no_more_time(listener: NotifySocket) -> None:
    def work(_: Loading) -> list[dict[str, str]]:
        time.sleep(0.2)  # what came before it
        listener.read_all()
        time.sleep(0.3)
        return [said for said in listener.read_all() if "EXTEND_TIMEOUT_USEC" in said]

    assert [] == loaded(listener, work)


def test_what_cannot_be_loaded_is_raised(listener: NotifySocket) -> None:
    def work(_: Loading) -> None:
        raise ModelError("there is no model")

    with pytest.raises(ModelError, match="there is no model"):
        loaded(listener, work)


def test_a_program_that_is_stopped_does_not_wait_for_it(listener: NotifySocket) -> None:
    hangs = threading.Event()

    async def stop() -> None:
        running = asyncio.create_task(Loading(service_manager({})).run(lambda: hangs.wait(60)))
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.wait([running])

    started_at = time.monotonic()
    asyncio.run(stop())
    hangs.set()
    assert time.monotonic() - started_at < 5
