"""All doors of a verifier: which one holds a board's websocket, and how it gets there.

Without any, and wherever a websocket cannot be handed over, it stays in the verifier's own process.
This module must never know what a message means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from verifier.doors.kept_door import KeptDoor


class Doors:
    """Started before the port answers, and stopped after its last connection."""

    def __init__(self, num_doors: int, postpones: Callable[[Callable[[], None]], bool]) -> None:
        """`postpones`: see `Inward`."""
        self.all: Sequence[KeptDoor] = [
            KeptDoor(f"door {number}", postpones) for number in range(num_doors)
        ]
        self._keeping: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all of them.

        Raises:
            LinkLost: one does not serve.
        """
        await asyncio.gather(*(door.start() for door in self.all))
        self._keeping = [
            asyncio.create_task(door.keep(), name=f"keep-{door.name}") for door in self.all
        ]

    async def stop(self) -> None:
        """End all of them; safe to call after a failed start."""
        for task in self._keeping:
            task.cancel()
        if self._keeping:
            await asyncio.wait(self._keeping)
        await asyncio.gather(*(door.stop() for door in self.all))

    def flush(self) -> None:
        """Send what was put, now."""
        for door in self.all:
            door.flush()

    def least_busy(self) -> KeptDoor | None:
        """The door that a new connection should go to; None: none takes any now."""
        opened = [door for door in self.all if door.is_open]
        return min(opened, key=lambda door: door.num_connections, default=None)
