"""The processes of a Ray of this host's own, to be killed by a test."""

from __future__ import annotations

from pathlib import Path

from tests.support.programs.children import descendants_of


def of_ray(program: str, ray_process_id: int | None) -> int:
    """The process of this Ray with such a program."""
    assert ray_process_id is not None
    named = {p: Path(f"/proc/{p}/cmdline").read_bytes() for p in descendants_of(ray_process_id)}
    (found,) = (p for p, words in named.items() if program.encode() in words.split(b"\0")[0])
    return found
