"""What a doctor finds: one sentence each, how bad it is, and the command that mends it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

Level = Literal["ok", "warning", "problem"]

_EXIT_CODES: dict[Level, int] = {"ok": 0, "warning": 1, "problem": 2}
_SUBJECT_WIDTH = 11


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    subject: str  # one word: what it is about
    level: Level
    sentence: str
    remedy: str | None = None  # a command, or a setting to change; always there where not all is ok


def ok(subject: str, sentence: str) -> Finding:
    """All is well there."""
    return Finding(subject, "ok", sentence)


def warning(subject: str, sentence: str, remedy: str) -> Finding:
    """It works, but worse than it could."""
    return Finding(subject, "warning", sentence, remedy)


def problem(subject: str, sentence: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(subject, "problem", sentence, remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """0: all is well; 1: warnings only; 2: problems."""
    return max((_EXIT_CODES[finding.level] for finding in findings), default=0)


def to_json(findings: Sequence[Finding]) -> str:
    """For programs: exit code and all findings, one object."""
    report = {"exit_code": exit_code(findings), "findings": findings}
    return msgspec.json.format(msgspec.json.encode(report)).decode()


def to_lines(finding: Finding) -> Iterator[str]:
    """For people: the sentence, and below it what mends it."""
    yield f"{finding.level:7}  {finding.subject:{_SUBJECT_WIDTH}}  {finding.sentence}"
    if finding.remedy is not None:
        yield f"{'':7}  {'':{_SUBJECT_WIDTH}}  mend it: {finding.remedy}"
