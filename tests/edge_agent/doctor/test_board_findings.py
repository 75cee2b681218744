"""Heat, supply, clock and memory: each state of them, and what mends it."""

from __future__ import annotations

import pytest

from edge_agent.board.clock import Clock
from edge_agent.board.heat import Heat
from edge_agent.doctor.board_findings import (
    MemoryNeed,
    clock_finding,
    heat_findings,
    memory_finding,
)
from shared.doctor.findings import Level

NEED = MemoryNeed(weights=100_000_000, caches=200_000_000)


@pytest.mark.parametrize(
    ("free_bytes", "level"),
    [
        (None, "ok"),
        (420_000_000, "ok"),
        (419_999_999, "warning"),
        (300_000_000, "warning"),
        (299_999_999, "problem"),
    ],
)
def test_memory(free_bytes: int | None, level: Level) -> None:
    finding = memory_finding(NEED, free_bytes)
    assert level == finding.level
    assert "model 0.1 GiB + caches 0.2 GiB + program 0.1 GiB" in finding.sentence
    assert (level == "ok") is (finding.remedy is None)


@pytest.mark.parametrize(
    ("heat", "supply", "warmth"),
    [
        (Heat(), ("ok", "does not tell"), ("ok", "does not tell its temperature")),
        (
            Heat(celsius=55, is_undervolted=False),
            ("ok", "has held"),
            ("ok", "55 °C"),
        ),
        (Heat(is_undervolted=True), ("problem", "too low right now"), ("ok", "does not tell")),
        (
            Heat(was_undervolted=True, is_undervolted=False),
            ("warning", "was too low"),
            ("ok", "does not tell"),
        ),
        (Heat(overcurrent_events=3), ("warning", "3 times"), ("ok", "does not tell")),
        (Heat(overcurrent_events=0), ("ok", "has held"), ("ok", "does not tell")),
        (Heat(celsius=80), ("ok", "does not tell"), ("warning", "hot at 80 °C")),
        (
            Heat(celsius=84, is_slowed=True),
            ("ok", "does not tell"),
            ("warning", "slowed down right now at 84 °C"),
        ),
        (
            Heat(celsius=60, was_slowed=True, is_slowed=False),
            ("ok", "does not tell"),
            ("warning", "since it started; it is at 60 °C now"),
        ),
        (Heat(was_slowed=True), ("ok", "does not tell"), ("warning", "since it started")),
    ],
)
def test_supply_and_heat(heat: Heat, supply: tuple[Level, str], warmth: tuple[Level, str]) -> None:
    findings = list(heat_findings(heat))
    for finding, (level, words) in zip(findings, (supply, warmth), strict=True):
        assert level == finding.level
        assert words in finding.sentence
        assert (level == "ok") is (finding.remedy is None)


@pytest.mark.parametrize(
    ("clock", "uses_tls", "level"),
    [
        (Clock(2026, None), True, "ok"),
        (Clock(2026, True), True, "ok"),
        (Clock(2026, False), True, "warning"),
        (Clock(1970, False), True, "problem"),
        (Clock(1970, None), False, "warning"),
    ],
)
def test_the_clock(clock: Clock, uses_tls: bool, level: Level) -> None:
    finding = clock_finding(clock, uses_tls)
    assert level == finding.level
    assert (level == "ok") is (finding.remedy is None)
