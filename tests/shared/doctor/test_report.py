"""Findings on their way out."""

from __future__ import annotations

import io
import json

from shared.doctor.findings import ok, warning
from shared.doctor.report import Report

FOUND = (ok("model", "it is whole"), warning("heat", "it is \x1b[31mhot", "cool it"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_one_after_the_other_and_are_safe_to_show() -> None:
    output, progress = io.StringIO(), io.StringIO()
    report = Report(output, progress, as_json=False)
    report.tell("measuring")
    assert 1 == report.show(iter(FOUND))
    assert "measuring …\n" == progress.getvalue()
    lines = output.getvalue().splitlines()
    assert ["ok       model        it is whole", "warning"] == [lines[0], lines[1][:7]]
    assert "\x1b" not in output.getvalue()


def test_programs_get_one_object() -> None:
    output = io.StringIO()
    assert 1 == Report(output, io.StringIO(), as_json=True).show(iter(FOUND))
    assert ["ok", "warning"] == [
        finding["level"] for finding in json.loads(output.getvalue())["findings"]
    ]


def test_a_terminal_keeps_no_line_of_progress() -> None:
    output, progress = io.StringIO(), Terminal()
    report = Report(output, progress, as_json=False)
    report.tell("measuring a lot")
    report.tell("more")
    report.show(iter(FOUND))
    assert progress.getvalue().endswith("more …\r      \r")
    assert "\n" not in progress.getvalue()
