"""Warnings come once a minute, and say how many were hushed."""

from __future__ import annotations

from shared.daemon.log_limit import HUSHED_SECONDS, LogLimit


def test_the_first_one_is_due_and_the_next_after_a_minute() -> None:
    log_limit = LogLimit()
    times = [5.0, 5.0, 5.0 + HUSHED_SECONDS - 0.1, 5.0 + HUSHED_SECONDS, 6.0 + HUSHED_SECONDS]
    assert [True, False, False, True, False] == [log_limit.is_due(now) for now in times]


def test_a_warning_says_how_many_were_hushed_before_it() -> None:
    log_limit = LogLimit()
    assert log_limit.is_due(0.0)
    assert "" == log_limit.ending()
    for _ in range(3):
        assert not log_limit.is_due(1.0)
    assert log_limit.is_due(HUSHED_SECONDS)
    assert " (and 3 more like it before)" == log_limit.ending()
    assert "" == log_limit.ending()
