"""When the next token of a stream is due: as a reader needs it who reads at a constant pace.

The first token starts the clock. A token that comes early leaves its time to those behind it; where
one is late the reader waits for it and goes on from there. So a token is late exactly when a reader
of one token every `slo_seconds` would wait for it. This module must never read a clock.
"""

from __future__ import annotations

# Deadlines are sums of rounds: two times that differ by less are one.
SAME_SECONDS = 1e-9


class TokenDeadlines:
    """The deadlines of one stream's tokens."""

    __slots__ = ("due_at", "slo_seconds")

    def __init__(self, slo_seconds: float) -> None:
        self.slo_seconds = slo_seconds
        self.due_at: float | None = None
        """When the next token is due; None: no token has come yet."""

    def take(self, num_tokens: int, now: float) -> tuple[int, int]:
        """So many tokens came at once: how many of them were in time, and how many late.

        The first token of all is neither.
        """
        if not num_tokens:
            return 0, 0
        if self.due_at is None:
            self.due_at = now + num_tokens * self.slo_seconds
            return num_tokens - 1, 0
        num_late = int(now > self.due_at + SAME_SECONDS)
        self.due_at = max(self.due_at, now) + num_tokens * self.slo_seconds
        return num_tokens - num_late, num_late

    def spare_seconds(self, now: float) -> float:
        """How far the stream is ahead: what it may lose now and still have a whole token's time."""
        return 0.0 if self.due_at is None else max(self.due_at - now - self.slo_seconds, 0.0)

    def restart(self) -> None:
        """The reader has stopped: the next token that comes is a first one."""
        self.due_at = None
