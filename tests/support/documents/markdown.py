"""What a page of Markdown claims: paths, commands, settings, defaults, links; pure text to values.

Nothing here knows whether a claim is true.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_PROGRAM = re.compile(r"(make|python -m|pytest|pip install|goodspeed-[a-z]+) ")
_SETTING = re.compile(r"([a-z]+\.[a-z_]+)(?: = (.+))?")
# "`section.key` (VALUE)" and "`section.key` is `VALUE`": a bare number, or anything in a span.
_DEFAULT = re.compile(r"`([a-z]+\.[a-z_]+)` (?:\(|is )(?:`([^`\n]+)`|([0-9.]+)(?=\)))")
_BY_DEFAULT = re.compile(r"`([^`\n]+)` by default")
_PORT = re.compile(r"(?:ws|wss|http|https)://[0-9a-z.]+:(\d+)")
_FILE_ENDINGS = ("md", "py", "toml", "jsonl")


@dataclass(frozen=True, slots=True)
class TreeLine:
    """One line of a file tree: a path from the root, and the half-line after it."""

    path: str
    half_line: str


def tree_lines(text: str, heading: str) -> list[TreeLine]:
    """The file tree in the first fenced block after a heading; two spaces for each folder.

    Raises:
        ValueError: a line is indented so that it has no folder above it.
    """
    _, _, after = text.partition(f"\n## {heading}\n")
    block = _FENCE.search(after)
    found: list[TreeLine] = []
    above: list[str] = []
    for line in block.group(1).splitlines() if block else []:
        name, _, half_line = line.strip().partition(" ")
        depth, odd = divmod(len(line) - len(line.lstrip(" ")), 2)
        if odd or depth > len(above):
            raise ValueError(f"no folder above {line!r}")
        above = [*above[:depth], name.rstrip("/")]
        slash = "/" if name.endswith("/") else ""
        found.append(TreeLine("/".join(above) + slash, half_line.strip()))
    return found


def commands(text: str) -> list[list[str]]:
    """The words of every command of ours, in fenced blocks and spans, comments left out."""
    lines = [line for block in _FENCE.findall(text) for line in block.splitlines()]
    return [
        shlex.split(line, comments=True)
        for line in (*lines, *_spans(text))
        if _PROGRAM.match(line + " ")
    ]


def settings(text: str) -> list[tuple[str, str | None]]:
    """Every `section.key`, and the value as TOML where it reads `section.key = VALUE`."""
    matches = (_SETTING.fullmatch(span) for span in _spans(text))
    found = [(match[1], match[2]) for match in matches if match]
    return [(key, value) for key, value in found if not key.endswith(_FILE_ENDINGS)]


def sections(text: str) -> list[str]:
    """Every `[section]`."""
    return [span[1:-1] for span in _spans(text) if re.fullmatch(r"\[[a-z]+\]", span)]


def stated_defaults(text: str) -> list[tuple[str, str]]:
    """Every "`section.key` (VALUE)" and "`section.key` is `VALUE`"."""
    return [(key, span or number) for key, span, number in _DEFAULT.findall(_prose(text))]


def values_by_default(text: str) -> list[str]:
    """Every "`VALUE` by default"."""
    return _BY_DEFAULT.findall(_prose(text))


def ports(text: str) -> set[int]:
    """The ports of all addresses."""
    return {int(port) for port in _PORT.findall(text)}


def links(text: str) -> list[str]:
    """Where links lead inside the repository, without the place on the page."""
    targets = (target.partition("#")[0] for target in _LINK.findall(_prose(text)))
    return [target for target in targets if target and "://" not in target]


def paths(text: str, folders: set[str]) -> list[str]:
    """Every `folder/…` below one of these folders."""
    return [
        span
        for span in _spans(text)
        if re.fullmatch(r"[\w.-]+/[\w./-]*", span) and span.partition("/")[0] in folders
    ]


def _prose(text: str) -> str:
    return _FENCE.sub("", text)


def _spans(text: str) -> Iterator[str]:
    yield from _SPAN.findall(_prose(text))
