"""What a board tells its verifier of its hardware, from sysfs and /proc alone."""

from __future__ import annotations

from pathlib import Path

from edge_agent.board.heat import read_heat
from shared.daemon.resources.main_memory import free_main_memory
from shared.protocol.board_health import BoardHealth


def read_health(root: Path = Path("/")) -> BoardHealth:
    """What the machine whose file system this is tells now."""
    heat = read_heat(root)
    free_bytes = free_main_memory(root / "proc", root / "sys/fs/cgroup")
    return BoardHealth(
        celsius=None if heat.celsius is None else round(min(max(heat.celsius, -100), 300)),
        free_megabytes=None if free_bytes is None else max(0, free_bytes) // 1_000_000,
        is_undervolted=heat.is_undervolted,
        is_slowed=heat.is_slowed,
        was_undervolted=heat.was_undervolted,
        # A Jetson tells of too much current by counts alone.
        was_slowed=bool(heat.overcurrent_events) or heat.was_slowed,
    )
