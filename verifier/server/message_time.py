"""How long one message of a board occupies the event loop, in processor time of its thread.

Not by the clock: the target's thread and other programs take their part of that. But asking the
system costs as much as a short draft does (1 µs, 5 and more where the loop has just woken up), and
nearly all messages are short drafts, which cannot take long: those go by the clock, up to a bound.
"""

from __future__ import annotations

import time

# A frame of so few bytes that is a draft …
SMALL_BYTES = 256
# … takes no longer than this.
MOST_SMALL_SECONDS = 200e-6


class MessageTime:
    """`begin` when a frame is taken, `is_not_small` when it turns out to be more, then `end`."""

    __slots__ = ("_began_at", "_is_by_clock")

    def __init__(self) -> None:
        self._began_at: float | None = None
        self._is_by_clock = False

    def begin(self, num_bytes: int) -> None:
        """A frame of so many bytes is taken, perhaps a draft; 0: it is no message."""
        self._is_by_clock = 0 < num_bytes <= SMALL_BYTES
        self._began_at = time.monotonic() if self._is_by_clock else time.thread_time()

    def is_not_small(self) -> None:
        """The message of the frame is no draft: a few bytes may ask for much."""
        if self._is_by_clock:
            self._is_by_clock, self._began_at = False, time.thread_time()

    def end(self) -> float | None:
        """The seconds since `begin`; None where nothing began since the last `end`."""
        began_at, self._began_at = self._began_at, None
        if began_at is None:
            return None
        if self._is_by_clock:
            return min(time.monotonic() - began_at, MOST_SMALL_SECONDS)
        return time.thread_time() - began_at
