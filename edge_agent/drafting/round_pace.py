"""When the verifier's next round will start, estimated from the verdicts of one stream.

A round that starts without a stream's draft decodes it alone, so in `coupled` a short draft in
time is worth more than a long one too late. Pure; `now` is an argument.
"""

from __future__ import annotations

import math

from shared.speculation.smoothing import smoothed

# Rounds differ by their tokens and their streams; a few verdicts follow that.
_SMOOTHING = 0.2
# The rest of the round that is running (half of it on average), the token's own, one that starts
# with its verdict, and those in which a new path is not ahead yet. With 1.5, 2.5 and 3 n-grams cost
# up to 4 % of the tokens/s of the model alone, with this at most 1 % (benchmarks/replay_ngram.py).
_ROUNDS_LOST = 4.0


class RoundPace:
    """Follows one stream's verdicts and drafting speed; all times in seconds."""

    __slots__ = (
        "_deviation_seconds",
        "_last_verdict_at",
        "_token_seconds",
        "_verdict_seconds",
        "round_trip_seconds",
    )

    def __init__(self, round_trip_seconds: float = 0.0) -> None:
        self.round_trip_seconds = round_trip_seconds
        self._last_verdict_at: float | None = None
        self._verdict_seconds: float | None = None  # from one to the next
        self._deviation_seconds = 0.0  # how far off that mostly is
        self._token_seconds: float | None = None

    def observe_verdict(self, now: float) -> None:
        """A verdict arrived: a round has ended and the next one starts."""
        if self._last_verdict_at is not None:
            seconds_between = now - self._last_verdict_at
            off_by_seconds = abs(seconds_between - (self._verdict_seconds or seconds_between))
            self._deviation_seconds = smoothed(self._deviation_seconds, off_by_seconds, _SMOOTHING)
            self._verdict_seconds = smoothed(self._verdict_seconds, seconds_between, _SMOOTHING)
        self._last_verdict_at = now

    def pause(self) -> None:
        """The link was lost: the time until the next verdict says nothing about rounds."""
        self._last_verdict_at = None

    def observe_draft_token(self, seconds: float) -> None:
        """One draft token took this long."""
        self._token_seconds = smoothed(self._token_seconds, seconds, _SMOOTHING)

    @property
    def drafts_at_stake(self) -> float:
        """Tokens of the draft model that are lost if one drafted now is wrong; inf: unknown.

        It draws on until it hears of that; the target meanwhile says one token a round itself.
        """
        if not self._verdict_seconds or not self._token_seconds:
            return math.inf
        seconds = self.round_trip_seconds + _ROUNDS_LOST * self._verdict_seconds
        return max(seconds / self._token_seconds - seconds / self._verdict_seconds, 0.0)

    def draws_in_time(self, most: int, seconds: float, now: float) -> int:
        """How many draws in a row, each so long, up to `most`, end before the last chance."""
        token_seconds = self._token_seconds
        for num_draws in range(most):
            token_seconds = smoothed(token_seconds, seconds, _SMOOTHING)
            now += seconds
            if self._is_last_chance(now, token_seconds):
                return num_draws
        return max(most, 0)

    def is_last_chance(self, now: float) -> bool:
        """Whether another token would come too late for the next round that this draft can reach.

        Where a message takes longer than a round, that is not the one after the running round.
        """
        return self._is_last_chance(now, self._token_seconds)

    def _is_last_chance(self, now: float, token_seconds: float | None) -> bool:
        if self._last_verdict_at is None or not self._verdict_seconds:
            return False
        expected_at = self._last_verdict_at + self._verdict_seconds - self._deviation_seconds
        seconds_left = expected_at - self.round_trip_seconds - now
        if seconds_left < 0:
            seconds_left %= self._verdict_seconds
        return seconds_left <= (token_seconds or 0.0)
