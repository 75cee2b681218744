"""Findings as people and programs read them, and the exit code."""

from __future__ import annotations

import json

import pytest

from shared.doctor.findings import Finding, exit_code, ok, problem, to_json, to_lines, warning

FINE = ok("model", "it is whole")
SLOW = warning("heat", "it is hot", "cool it")
BROKEN = problem("clock", "it says 1970", "set it")


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ((), 0),
        ((FINE,), 0),
        ((FINE, SLOW), 1),
        ((BROKEN, SLOW, FINE), 2),
        ((FINE, BROKEN), 2),
    ],
)
def test_the_worst_finding_decides_the_exit_code(
    findings: tuple[Finding, ...], expected: int
) -> None:
    assert expected == exit_code(findings)


def test_json_has_all_that_was_found() -> None:
    report = json.loads(to_json((FINE, SLOW)))
    assert {
        "exit_code": 1,
        "findings": [
            {"subject": "model", "level": "ok", "sentence": "it is whole", "remedy": None},
            {"subject": "heat", "level": "warning", "sentence": "it is hot", "remedy": "cool it"},
        ],
    } == report


def test_people_see_the_remedy_below_the_sentence() -> None:
    assert ["ok       model        it is whole"] == list(to_lines(FINE))
    assert [
        "problem  clock        it says 1970",
        "                      mend it: set it",
    ] == list(to_lines(BROKEN))
