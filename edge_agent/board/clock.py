"""The board's clock: one without a battery begins in the past, before certificates are valid.

This module must never judge; it reads what systemd leaves on the disk.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec


class Clock(msgspec.Struct, frozen=True):
    """What the clock says."""

    year: int
    is_synchronised: bool | None  # None: another program than systemd's looks after it


def read_clock(root: Path = Path("/"), now: datetime.datetime | None = None) -> Clock:
    """The clock now; `now` and the file system are this machine's by default."""
    state = root / "run/systemd/timesync"
    return Clock(
        year=(now or datetime.datetime.now(datetime.UTC)).year,
        is_synchronised=(state / "synchronized").exists() if state.is_dir() else None,
    )
