"""Warnings come once a minute, and say how many were hushed."""

from __future__ import annotations

from shared.daemon.log_limit import HUSHED_SECONDS, Hush


def test_the_first_one_is_due_and_the_next_after_a_minute() -> None:
    hush = Hush()
    times = [5.0, 5.0, 5.0 + HUSHED_SECONDS - 0.1, 5.0 + HUSHED_SECONDS, 6.0 + HUSHED_SECONDS]
    assert [True, False, False, True, False] == [hush.is_due(now) for now in times]


def test_a_warning_says_how_many_were_hushed_before_it() -> None:
    hush = Hush()
    assert hush.is_due(0.0)
    assert "" == hush.ending()
    for _ in range(3):
        assert not hush.is_due(1.0)
    assert hush.is_due(HUSHED_SECONDS)
    assert " (and 3 more like it before)" == hush.ending()
    assert "" == hush.ending()
