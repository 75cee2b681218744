"""Warnings that come once a minute, however often there is a reason: no device floods the log.

Pure: `now` is an argument.
"""

from __future__ import annotations

HUSHED_SECONDS = 60.0


class LogLimit:
    """Whether the next warning about one thing is due."""

    __slots__ = ("_num_hushed", "_until")

    def __init__(self) -> None:
        self._until: float | None = None
        self._num_hushed = 0

    def is_due(self, now: float) -> bool:
        """Whether to warn at `now`; if so, not again within a minute."""
        if self._until is not None and now < self._until:
            self._num_hushed += 1
            return False
        self._until = now + HUSHED_SECONDS
        return True

    def ending(self) -> str:
        """What to put behind a warning that is due: how many were hushed since the last one."""
        num_hushed, self._num_hushed = self._num_hushed, 0
        return f" (and {num_hushed} more like it before)" if num_hushed else ""
