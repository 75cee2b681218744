"""When to try a lost connection again: pure, with the random number as an argument.

Full jitter (a thousand boards must not come back in the same instant): a random part of a delay
that doubles up to a limit. A connection makes up for failures while it lives, so that a device
that is cut off now and then is back at once, and a link that breaks as soon as it is there is tried
less and less often.
"""

from __future__ import annotations

FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 30.0
# While a client is in the middle of an answer, a verifier that cannot be reached is looked for this
# often at least: it may be starting again, and should not be waited for longer than that takes.
AWAITED_DELAY_SECONDS = 0.5
# A verifier that loads holds what boards ask until it is ready, and sends them here again. So long
# at most: a thousand boards must not come in the same instant.
LOADING_DELAY_SECONDS = 0.2
# A token that was refused will hardly be accepted soon; an operator has to act first.
REFUSED_DELAY_SECONDS = 60.0
# An agent of another version or vocabulary is not accepted before an operator has changed a model
# or a program: mostly here, which restarts the agent, but the verifier may come back changed, too.
FINAL_DELAY_SECONDS = 300.0
# Whatever the other side asks for: it may be a wrong clock that asks.
MAX_RETRY_AFTER_SECONDS = 3600.0
# A connection that lived for so many first delays makes up for one failure. Two: with jitter half
# of a delay is waited on average, so a link that keeps breaking works four fifths of the time.
FIRST_DELAYS_PER_FAILURE = 2.0


class Backoff:
    """Delays between connection attempts."""

    def __init__(self) -> None:
        self._num_failures = 0

    def record_connection(self, lived_seconds: float) -> None:
        """A connection was open for this long."""
        made_up_for = lived_seconds / (FIRST_DELAYS_PER_FAILURE * FIRST_DELAY_SECONDS)
        self._num_failures -= int(min(made_up_for, self._num_failures))

    def delay_seconds(
        self,
        jitter: float,
        retry_after_seconds: float | None = None,
        *,
        is_refused: bool = False,
        is_final: bool = False,
        is_awaited: bool = False,
        is_loading: bool = False,
    ) -> float:
        """Count a failure and give the wait before the next attempt; `jitter` in [0, 1).

        What the verifier asked for (`retry_after_seconds`) is a minimum. `is_refused`: it does not
        know the token. `is_final`: it refuses this agent, whatever the token. `is_awaited`: it
        could not be reached, and a client waits for it. `is_loading`: it will be ready soon, which
        is no failure.
        """
        if is_loading:
            return min(retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS) + (
                jitter * LOADING_DELAY_SECONDS
            )
        if is_final:
            return (1 + jitter) / 2 * FINAL_DELAY_SECONDS
        longest = FIRST_DELAY_SECONDS * 2.0**self._num_failures
        if longest < MAX_DELAY_SECONDS:
            self._num_failures += 1
        longest = min(longest, AWAITED_DELAY_SECONDS if is_awaited else MAX_DELAY_SECONDS)
        if is_refused:
            longest = REFUSED_DELAY_SECONDS
        return min(retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS) + jitter * longest
