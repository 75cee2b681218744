"""Processor time of the child processes that run now: a program whose children work is at work."""

from __future__ import annotations

import os
from pathlib import Path

# Of /proc/PID/stat behind the name, which may hold anything: user and system time, in ticks.
_USER, _SYSTEM = 11, 12


def seconds_of_children(proc: Path = Path("/proc")) -> float:
    """Of all that are there, each with its threads, to a tick of the kernel (10 ms)."""
    ticks = sum(_ticks(proc / str(child) / "stat") for child in _children(proc))
    return ticks / os.sysconf("SC_CLK_TCK")


def _children(proc: Path) -> set[int]:
    found: set[int] = set()
    for listed in (proc / str(os.getpid()) / "task").glob("*/children"):
        try:
            found.update(map(int, listed.read_text().split()))
        except OSError:  # that thread has just ended
            continue
    return found


def _ticks(stat: Path) -> int:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:  # that child has just ended
        return 0
    return int(fields[_USER]) + int(fields[_SYSTEM])
