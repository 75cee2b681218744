"""When a stream whose drafts do not pay may draft a little all the same, to be judged anew.

Pure: `now` is handed in.
"""

from __future__ import annotations

# One probe meets some four target rows: it moves a settled estimate by a tenth.
PROBE_LENGTH = 4
# Half a second is a few rounds of a slow target: a board refused by a noisy first estimate is
# asked again soon.
FIRST_PROBE_PAUSE_SECONDS = 0.5
# Ten probes within the first minute, enough to turn an estimate around.
PROBE_PAUSE_GROWTH = 1.5
# A probe on a slow board (8 tokens/s) costs a waiting stream 0.5 s: below 2 % at this pause.
MAX_PROBE_PAUSE_SECONDS = 30.0
# Of the time of a stream that waits, probes may take this part.
MAX_PROBE_SHARE = 0.02


class ProbeClock:
    """Grants a stream whose drafts do not pay a short draft now and then, ever more rarely.

    Without it a bad estimate would stay: no drafts, no news.
    """

    __slots__ = ("_next_probe_at", "_pause_seconds")

    def __init__(self) -> None:
        self._next_probe_at: float | None = None
        self._pause_seconds = FIRST_PROBE_PAUSE_SECONDS

    def grant_probe(self, now: float, wait_seconds: float = 0.0) -> int:
        """The length to grant at `now` instead of 0; starts the pause at the first call.

        `wait_seconds` is what a probe costs a stream that waits for it.
        """
        least_pause = wait_seconds / MAX_PROBE_SHARE
        if self._next_probe_at is None:
            self._next_probe_at = now + max(self._pause_seconds, least_pause)
            return 0
        if now < self._next_probe_at:
            return 0
        self._pause_seconds = min(self._pause_seconds * PROBE_PAUSE_GROWTH, MAX_PROBE_PAUSE_SECONDS)
        self._next_probe_at = now + max(self._pause_seconds, least_pause)
        return PROBE_LENGTH

    def restart(self) -> None:
        """Start over with the shortest pause the next time that drafts do not pay."""
        self._next_probe_at = None
        self._pause_seconds = FIRST_PROBE_PAUSE_SECONDS
