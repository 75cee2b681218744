"""The processes that a process has started, as the kernel lists them."""

from __future__ import annotations

from pathlib import Path


def children_of(process_id: int, word: str) -> list[int]:
    """Those with this word on their command line, the oldest first."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command_line = (entry / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == process_id and word.encode() in command_line:
            found.append(int(entry.name))
    return sorted(found)


def descendants_of(process_id: int) -> list[int]:
    """Its children, theirs, and so on."""
    found = children_of(process_id, "")
    return found + [other for child in found for other in descendants_of(child)]
