"""The watchdog in virtual time: pings while work gets on, none when it hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest

from shared.daemon.service_manager.notify import ServiceManager
from shared.daemon.service_manager.watchdog import STATUS_SECONDS, report

WATCHDOG_SECONDS = 30.0


class RecordedManager(ServiceManager):
    """Keeps what it is told, with the time."""

    def __init__(self, clock: Callable[[], float], watchdog_seconds: float | None) -> None:
        super().__init__("/nowhere", watchdog_seconds)
        self.pinged_at: list[float] = []
        self.statuses: list[tuple[float, str]] = []
        self._clock = clock

    def ping(self) -> None:
        self.pinged_at.append(self._clock())

    def status(self, sentence: str) -> None:
        self.statuses.append((self._clock(), sentence))


class Over(Exception):
    """The time of the test is."""


def told(
    seconds: float,
    *,
    busy_since: Callable[[float], float | None] = lambda now: None,
    status: Callable[[float], str] = lambda now: "well",
    watchdog_seconds: float | None = WATCHDOG_SECONDS,
) -> RecordedManager:
    """What is told in so many seconds of a clock that only sleep moves."""
    now = [0.0]

    async def sleep(pause: float) -> None:
        now[0] += pause
        if now[0] >= seconds:
            raise Over

    manager = RecordedManager(lambda: now[0], watchdog_seconds)
    with suppress(Over):
        asyncio.run(
            report(
                manager,
                lambda: status(now[0]),
                lambda: busy_since(now[0]),
                clock=lambda: now[0],
                sleep=sleep,
            )
        )
    return manager


def test_an_idle_program_pings_three_times_in_a_watchdog() -> None:
    pinged_at = told(300.0).pinged_at
    gaps = [later - earlier for earlier, later in pairwise(pinged_at)]
    assert 0.0 == pinged_at[0]
    assert max(gaps) < WATCHDOG_SECONDS / 2
    assert len(pinged_at) == pytest.approx(30, abs=1)


def test_work_in_short_pieces_is_well() -> None:
    busy = told(300.0, busy_since=lambda now: now - now % 20).pinged_at
    assert busy == told(300.0).pinged_at


def test_work_that_hangs_ends_the_program_within_two_watchdogs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hangs_at = 100.0
    manager = told(400.0, busy_since=lambda now: hangs_at if now >= hangs_at else None)
    killed_at = manager.pinged_at[-1] + WATCHDOG_SECONDS
    assert hangs_at < killed_at <= hangs_at + 2 * WATCHDOG_SECONDS
    assert 1 == caplog.text.count("what is computed takes over 30 s")


def test_work_that_comes_to_an_end_after_all_is_pinged_for_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = told(300.0, busy_since=lambda now: 100.0 if 100.0 <= now < 140.0 else None)
    assert not [at for at in manager.pinged_at if 130.0 <= at < 140.0]
    assert [at for at in manager.pinged_at if at >= 140.0]


def test_without_a_watchdog_only_the_status_is_told() -> None:
    manager = told(60.0, watchdog_seconds=None)
    assert [] == manager.pinged_at
    assert [(STATUS_SECONDS, "well")] == manager.statuses


def test_a_status_is_told_when_it_changed_and_no_more_than_so_often() -> None:
    manager = told(61.0, status=lambda now: f"minute {now // 60:.0f}")
    assert ["minute 0", "minute 1"] == [sentence for _, sentence in manager.statuses]
    busy = told(60.0, status=str).statuses
    assert len(busy) <= 60.0 / STATUS_SECONDS
