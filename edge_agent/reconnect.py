"""When to try the verifier again: pure, with the random number as an argument.

Full jitter (a thousand boards must not come back in the same instant): a random part of a delay
that doubles up to a limit and starts over after a healthy connection.
"""

from __future__ import annotations

FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 30.0
# A token that was refused will hardly be accepted soon; somebody has to act first.
REFUSED_DELAY_SECONDS = 60.0
# A connection that lived this long was a good one: the next failure starts from the first delay.
HEALTHY_SECONDS = 60.0


class Backoff:
    """Delays between connection attempts."""

    def __init__(self) -> None:
        self._num_failures = 0

    @property
    def is_first_failure(self) -> bool:
        """Whether the failure just counted is the first one of its cycle (worth a warning)."""
        return self._num_failures == 1

    def connected(self, lived_seconds: float) -> None:
        """A connection was open for this long."""
        if lived_seconds >= HEALTHY_SECONDS:
            self._num_failures = 0

    def delay_seconds(
        self, jitter: float, retry_after_seconds: float | None = None, *, is_refused: bool = False
    ) -> float:
        """Count a failure and give the wait before the next attempt; `jitter` in [0, 1).

        What the verifier asked for (`retry_after_seconds`) is a minimum.
        """
        longest = min(FIRST_DELAY_SECONDS * 2.0 ** min(self._num_failures, 16), MAX_DELAY_SECONDS)
        self._num_failures += 1
        if is_refused:
            longest = REFUSED_DELAY_SECONDS
        return (retry_after_seconds or 0.0) + jitter * longest
