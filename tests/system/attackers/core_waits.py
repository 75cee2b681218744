"""How long threads that were ready to run waited for a core, as Linux counts it.

On a machine whose cores others share it tells their doing from a program's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class CoreWaits:
    """The waits of some threads together since they began; 0 where the kernel counts none."""

    def __init__(self, thread_ids: Sequence[int]) -> None:
        self._files = [Path(f"/proc/{number}/schedstat") for number in thread_ids]

    @classmethod
    def of_process(cls, process_id: int, *more_threads: int) -> CoreWaits:
        """All threads that a process has now, and some others."""
        threads = [int(path.name) for path in Path(f"/proc/{process_id}/task").iterdir()]
        return cls([*threads, *more_threads])

    def seconds(self) -> float:
        """In all."""
        nanoseconds = 0
        for file in self._files:
            try:
                nanoseconds += int(file.read_text().split()[1])
            except OSError:  # the thread has ended, or the kernel counts nothing
                continue
        return nanoseconds / 1e9
