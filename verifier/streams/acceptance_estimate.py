"""How often draft tokens survive: a smoothed rate.

This module must never know why a draft was made.
"""

from __future__ import annotations

from collections.abc import Sequence

# A rate of 0 would never draft again and a rate of 1 would take the whole budget.
MIN_ACCEPTANCE_RATE = 0.01
MAX_ACCEPTANCE_RATE = 0.99
# The low end of what three quantised SmolLM2-135M drafts reached over seven domains (0.62 to
# 0.96): an unknown board starts short instead of wasting its first rounds.
INITIAL_ACCEPTANCE_RATE = 0.6
# GoodSpeed names no value for its eta. Four positions per draft have a spread of about 0.2; at
# 0.1 the smoothed rate keeps 0.05 of it and follows a change within some ten drafts.
ACCEPTANCE_SMOOTHING = 0.1
# The first guess counts like two tested positions, so that a handful of real ones outweigh it.
PRIOR_POSITIONS = 2.0


def warm_step(smoothing: float, num_observed: int) -> float:
    """The weight of the next sample: that of a plain mean until the smoothing takes over.

    The first guess counts as one sample; so a new device is known after a few rounds.
    """
    return max(smoothing, 1.0 / (num_observed + 2))


class AcceptanceEstimate:
    """The smoothed probability that the next draft token survives.

    Rounds with probability rows report by `observe_probs`, the others by `observe_counts`; both
    move the same rate, so that one device may serve both kinds of stream.
    """

    __slots__ = ("_num_drafts", "_num_positions", "_rate", "_smoothing", "num_observed")

    def __init__(
        self,
        initial_rate: float = INITIAL_ACCEPTANCE_RATE,
        smoothing: float = ACCEPTANCE_SMOOTHING,
    ) -> None:
        self._rate = initial_rate
        self._smoothing = smoothing
        self._num_drafts = 0
        self._num_positions = PRIOR_POSITIONS  # exponentially forgotten
        self.num_observed = 0
        """Positions that it was learnt from."""

    @property
    def rate(self) -> float:
        """The acceptance rate, within [0.01, 0.99]."""
        rate = self._rate
        if MIN_ACCEPTANCE_RATE < rate < MAX_ACCEPTANCE_RATE:
            return rate
        return min(max(rate, MIN_ACCEPTANCE_RATE), MAX_ACCEPTANCE_RATE)

    def observe_probs(self, accept_probs: Sequence[float]) -> None:
        """Take in min(1, target/draft) of *all* drafted positions, later than a rejection too.

        GoodSpeed equation 3; an empty draft says nothing.
        """
        if not accept_probs:
            return
        mean = sum(accept_probs) / len(accept_probs)
        assert 0.0 <= mean <= 1.0, f"mean acceptance of {mean} is outside [0, 1]"
        self._rate += warm_step(self._smoothing, self._num_drafts) * (mean - self._rate)
        self._num_drafts += 1
        self.num_observed += len(accept_probs)

    def observe_counts(self, num_accepted: int, num_rejected: int) -> None:
        """Take in one draft's accepted tokens and its rejected one (0 or 1), older ones fading.

        Positions after the rejection were not reached and are in neither number.
        """
        num_reached = num_accepted + num_rejected
        if num_reached == 0:
            return
        remembered = self._num_positions * (1.0 - self._smoothing)
        self._rate = (self._rate * remembered + num_accepted) / (remembered + num_reached)
        self._num_positions = remembered + num_reached
        self._num_drafts += 1
        self.num_observed += num_reached

    def copy(self) -> AcceptanceEstimate:
        """Make an estimate that goes on from here by itself."""
        successor = AcceptanceEstimate(self._rate, self._smoothing)
        successor._num_drafts = self._num_drafts
        successor._num_positions = self._num_positions
        successor.num_observed = self.num_observed
        return successor
