"""What the scheduler believes about a stream and its device, learnt from what rounds report.

Estimates are small mutable state, one owner each: the verifier's event loop or the simulator.
This module must never read a clock or decide anything; seconds and counts are arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from verifier.window_counts import WindowCounts

# A rate of 0 would never draft again and a rate of 1 would take the whole budget.
MIN_ACCEPTANCE_RATE = 0.01
MAX_ACCEPTANCE_RATE = 0.99

# The low end of what three quantised SmolLM2-135M drafts reached over seven domains (0.62 to
# 0.96): an unknown board starts short instead of wasting its first rounds.
INITIAL_ACCEPTANCE_RATE = 0.6

# GoodSpeed names no value for its eta. Four positions per draft have a spread of about 0.2; at
# 0.1 the smoothed rate keeps 0.05 of it and follows a change within some ten drafts.
ACCEPTANCE_SMOOTHING = 0.1

# GoodSpeed's beta = 0.5 is noisy: over 40 random fleets 0.05-0.2 gained 3.5 % over equal
# lengths against 2.4 % at 0.5, and never lost more than 0.2 %.
GOODPUT_SMOOTHING = 0.1

# A draft is late when it takes this many times as long as expected, and a little for the machine.
LATE_FACTOR, LATE_SECONDS = 1.5, 0.005

# Board speed and round trip drift over seconds (heat, radio); ten samples follow that.
SPEED_SMOOTHING = 0.1

# The first guess counts like two tested positions, so that a handful of real ones outweigh it.
PRIOR_POSITIONS = 2.0

# The longest draft that has its own bar in the acceptance histogram.
MAX_COUNTED_POSITIONS = 64

# The target alone gives one token per round, the natural first guess.
INITIAL_TOKENS_PER_ROUND = 1.0

# Goodput divides in the scheduler: a device left out for long stays finite.
MIN_TOKENS_PER_ROUND = 0.01


def _warm_step(smoothing: float, num_observed: int) -> float:
    """Return the weight of the next sample: that of a plain mean until the smoothing takes over.

    The first guess counts as one sample; so a new device is known after a few rounds.
    """
    return max(smoothing, 1.0 / (num_observed + 2))


class PositionCounts:
    """How often each position of a draft was reached, and accepted (position 0 is the first).

    Positions from `MAX_COUNTED_POSITIONS` on are left out.
    """

    __slots__ = ("_num_drafts",)

    def __init__(self) -> None:
        # By tokens accepted and rejected: every stream counts in every round, and few ever ask.
        self._num_drafts: Counter[tuple[int, int]] = Counter()

    def observe(self, num_accepted: int, num_rejected: int) -> None:
        """Count one draft with its accepted tokens and its rejected one (0 or 1)."""
        self._num_drafts[num_accepted, num_rejected] += 1

    @property
    def reached(self) -> list[int]:
        """Drafts that came to each position, up to the last one that any of them came to."""
        drafts = self._num_drafts.items()
        longest = max((sum(end) for end in self._num_drafts), default=0)
        return [
            sum(count for end, count in drafts if sum(end) > position)
            for position in range(min(longest, MAX_COUNTED_POSITIONS))
        ]

    @property
    def accepted(self) -> list[int]:
        """Drafts whose token at each position was accepted; as many positions as in `reached`."""
        drafts = self._num_drafts.items()
        return [
            sum(count for (num_accepted, _), count in drafts if num_accepted > position)
            for position in range(len(self.reached))
        ]


class AcceptanceEstimate:
    """The smoothed probability that the next draft token survives.

    Rounds with probability rows report by `observe_probs`, the others by `observe_counts`; both
    move the same rate, so that one device may serve both kinds of stream.
    """

    __slots__ = (
        "_num_drafts",
        "_num_positions",
        "_rate",
        "_smoothing",
        "num_observed",
        "positions",
    )

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
        """Tested positions so far, those of the device included; few mean caution."""
        self.positions = PositionCounts()

    @property
    def rate(self) -> float:
        """The acceptance rate, within [0.01, 0.99]."""
        return min(max(self._rate, MIN_ACCEPTANCE_RATE), MAX_ACCEPTANCE_RATE)

    def observe_probs(self, accept_probs: Sequence[float]) -> None:
        """Take in min(1, target/draft) of *all* drafted positions, later than a rejection too.

        GoodSpeed equation 3; an empty draft says nothing. The histogram needs the verdict:
        report that with `positions.observe`.
        """
        num_probs = len(accept_probs)
        if num_probs == 0:
            return
        mean = sum(accept_probs) / num_probs
        assert 0.0 <= mean <= 1.0, f"mean acceptance of {mean} is outside [0, 1]"
        self._rate += _warm_step(self._smoothing, self._num_drafts) * (mean - self._rate)
        self._num_drafts += 1
        self.num_observed += num_probs

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
        self.positions.observe(num_accepted, num_rejected)

    def continued(self) -> AcceptanceEstimate:
        """Return an estimate that goes on from here with an empty histogram."""
        successor = AcceptanceEstimate(self._rate, self._smoothing)
        successor._num_drafts = self._num_drafts
        successor._num_positions = self._num_positions
        successor.num_observed = self.num_observed
        return successor


class GoodputEstimate:
    """Smoothed output tokens per round (GoodSpeed equation 4, X) and per second."""

    __slots__ = ("_num_rounds", "_round_seconds", "_smoothing", "_tokens_per_round")

    def __init__(self, smoothing: float = GOODPUT_SMOOTHING) -> None:
        self._smoothing = smoothing
        self._tokens_per_round = INITIAL_TOKENS_PER_ROUND
        self._round_seconds = 0.0
        self._num_rounds = 0

    @property
    def tokens_per_round(self) -> float:
        """Tokens per round, at least 0.01 so that one may divide by it."""
        return max(self._tokens_per_round, MIN_TOKENS_PER_ROUND)

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second, or `None` before the first round."""
        if self._round_seconds == 0.0:
            return None
        # A ratio of means: the mean of ratios would count short rounds too much.
        return self._tokens_per_round / self._round_seconds

    def observe_round(self, num_tokens: int, elapsed_seconds: float) -> None:
        """Take in one round of the verifier: 0 tokens if this stream or device had no part in it.

        `elapsed_seconds` runs from the round before, so waiting counts. Rounds while a device
        has no open stream are not reported at all.
        """
        step = _warm_step(self._smoothing, self._num_rounds)
        self._tokens_per_round += step * (num_tokens - self._tokens_per_round)
        seconds_step = step if self._num_rounds else 1.0
        self._round_seconds += seconds_step * (elapsed_seconds - self._round_seconds)
        self._num_rounds += 1


def latest_arrival_seconds(expected_seconds: float) -> float:
    """When a draft that should take so long is late."""
    return LATE_FACTOR * expected_seconds + LATE_SECONDS


class SpeedEstimate:
    """A board's drafting speed and the link's round trip; `None` until the first sample."""

    __slots__ = ("_smoothing", "draft_token_seconds", "punctuality", "round_trip_seconds")

    def __init__(self, smoothing: float = SPEED_SMOOTHING) -> None:
        self._smoothing = smoothing
        self.draft_token_seconds: float | None = None
        """Seconds that the board needs for one draft token."""
        self.round_trip_seconds: float | None = None
        """Seconds from a message to its answer, without the drafting."""
        self.punctuality = 1.0
        """Part of the drafts that came when they were expected, or not much later."""

    def observe_drafting(self, num_tokens: int, drafting_seconds: float) -> None:
        """Take in one draft; an empty one says nothing."""
        if num_tokens:
            self.draft_token_seconds = self._smoothed(
                self.draft_token_seconds, drafting_seconds / num_tokens
            )

    def answer_seconds(self, num_tokens: int) -> float:
        """From a message to the arrival of so many draft tokens, as far as it is known."""
        seconds = num_tokens * (self.draft_token_seconds or 0.0)
        return seconds + (self.round_trip_seconds or 0.0)

    def observe_arrival(self, num_tokens: int, drafting_seconds: float, seconds: float) -> None:
        """Take in how long after its grant the first draft of a path came."""
        if self.round_trip_seconds is not None and self.draft_token_seconds is not None:
            expected = self.round_trip_seconds + num_tokens * self.draft_token_seconds
            is_punctual = seconds <= latest_arrival_seconds(expected)
            self.punctuality = self._smoothed(self.punctuality, float(is_punctual))
        self.observe_round_trip(max(seconds - drafting_seconds, 0.0))

    def observe_delay(self) -> None:
        """A draft that somebody waited for did not come in time."""
        self.punctuality = self._smoothed(self.punctuality, 0.0)

    def observe_round_trip(self, seconds: float) -> None:
        """Take in one measured round trip."""
        self.round_trip_seconds = self._smoothed(self.round_trip_seconds, seconds)

    def _smoothed(self, before: float | None, sample: float) -> float:
        return sample if before is None else before + self._smoothing * (sample - before)


@dataclass(slots=True)
class StreamEstimates:
    """One stream's own acceptance and goodput, and its device's speed (shared, not copied)."""

    acceptance: AcceptanceEstimate
    goodput: GoodputEstimate
    speed: SpeedEstimate


@dataclass(slots=True)
class DeviceEstimates:
    """What is kept of a device between its streams; `goodput` sums over its streams."""

    acceptance: AcceptanceEstimate = field(default_factory=AcceptanceEstimate)
    goodput: GoodputEstimate = field(default_factory=GoodputEstimate)
    speed: SpeedEstimate = field(default_factory=SpeedEstimate)
    windows: WindowCounts = field(default_factory=WindowCounts)

    def open_stream(self) -> StreamEstimates:
        """Return estimates for a new stream that start from what the device has shown so far."""
        return StreamEstimates(self.acceptance.continued(), GoodputEstimate(), self.speed)
