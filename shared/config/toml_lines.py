"""Which line of a TOML text sets which key: tomllib says what was set, but not where.

Looks at headers and at `key =` line by line; the text has already passed tomllib, so it must never
judge the syntax. A key that it cannot place gets the line of the table around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_PATH = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_PATH})\s*\]")
_KEY = re.compile(rf"\s*({_PATH})\s*=")
_TRIPLE_QUOTES = ('"' * 3, "'" * 3)


def find_lines(text: str) -> Mapping[tuple[str, ...], int]:
    """The first line (from 1) of every table and key that stands on a line of its own."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    open_quotes: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        was_open, open_quotes = open_quotes, _quotes_open_after(line, open_quotes)
        if was_open:
            continue
        if header := _HEADER.match(line):
            table = _split(header[1])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(table + _split(key[1]), number)
    return lines


def line_of(path: tuple[str, ...], lines: Mapping[tuple[str, ...], int]) -> int | None:
    """The line that sets `path`, or that of the nearest table around it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _quotes_open_after(line: str, open_quotes: str | None) -> str | None:
    """The triple quotes that a multi-line string still lacks at the end of this line."""
    candidates = (open_quotes,) if open_quotes else _TRIPLE_QUOTES
    for quotes in candidates:
        if line.count(quotes) % 2:
            return None if open_quotes else quotes
    return open_quotes
