"""A page that lays a paper's claims beside what came out here, as Markdown.

This module must never know a paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Verdict = Literal["reproduced", "in part", "not"]


class Claim(msgspec.Struct, frozen=True):
    """One sentence of a paper, judged."""

    says: str
    paper: str  # its figure
    ours: str
    verdict: Verdict
    reason: str


class Table(msgspec.Struct, frozen=True):
    """Cells as they are shown."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Part(msgspec.Struct, frozen=True):
    """What stands under one heading."""

    title: str
    text: str = ""
    table: Table | None = None
    picture: str | None = None  # a file beside the page


class Page(msgspec.Struct, frozen=True):
    """All of it."""

    title: str
    command: str
    summary: str
    claims: tuple[Claim, ...]
    parts: tuple[Part, ...]


def verdict_of(*, holds: bool, holds_somewhere: bool = False) -> Verdict:
    """From what a run came to."""
    if holds:
        return "reproduced"
    return "in part" if holds_somewhere else "not"


def markdown(page: Page) -> str:
    """The page."""
    claims = Table(
        ("claim", "paper", "here", "verdict", "why"),
        tuple((c.says, c.paper, c.ours, f"**{c.verdict}**", c.reason) for c in page.claims),
    )
    blocks = [
        f"# {page.title}",
        f"Written by `{page.command}`; the same command writes the same bytes.",
        page.summary,
        "## Claims",
        table_lines(claims),
    ]
    for part in page.parts:
        blocks.append(f"## {part.title}")
        blocks += [part.text] if part.text else []
        blocks += [f"![{part.title}]({part.picture})"] if part.picture else []
        blocks += [table_lines(part.table)] if part.table else []
    return "\n\n".join(blocks) + "\n"


def table_lines(table: Table) -> str:
    """A Markdown table."""
    return "\n".join(
        [_line(table.header), _line(["---"] * len(table.header)), *map(_line, table.rows)]
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
