"""What the scheduler believes about a stream and its device, learnt from what rounds report.

Estimates are small mutable state, one owner each: the verifier's event loop or the simulator.
This module must never read a clock or decide anything; seconds and counts are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.protocol.draft_path import DraftPath, DraftToken
from shared.speculation.calibration import Calibration
from shared.speculation.smoothing import smoothed
from verifier.streams.acceptance_estimate import AcceptanceEstimate
from verifier.streams.draft_chances import DraftChances
from verifier.streams.draft_mode import DraftMode
from verifier.streams.draft_pace import DraftPace
from verifier.streams.late_draft import LateDraft
from verifier.streams.position_counts import PositionCounts
from verifier.streams.window_counts import WindowCounts

# GoodSpeed's beta = 0.5 is noisy: over 40 random fleets 0.05-0.2 gained 3.5 % over equal
# lengths against 2.4 % at 0.5, and never lost more than 0.2 %.
GOODPUT_SMOOTHING = 0.1
# The mean of so many rounds of a board that gets 2 tokens in half of them is within some 7 %.
STEADY_ROUNDS = 50
STEADY_SMOOTHING = 1.0 / STEADY_ROUNDS

# A draft is late when it takes this many times as long as expected, and a little for the machine.
LATE_FACTOR, LATE_SECONDS = 1.5, 0.005

# Board speed and round trip drift over seconds (heat, radio); ten samples follow that.
SPEED_SMOOTHING = 0.1


# What a board claims for one token is no more than this: a slower one drafts nothing of worth.
MAX_TOKEN_SECONDS = 10.0

# The target alone gives one token per round, the natural first guess.
INITIAL_TOKENS_PER_ROUND = 1.0

# Goodput divides in the scheduler: a device left out for long stays finite.
MIN_TOKENS_PER_ROUND = 0.01


class GoodputEstimate:
    """Smoothed output tokens per round (GoodSpeed equation 4, X) and per second."""

    __slots__ = (
        "_num_rounds",
        "_round_seconds",
        "_smoothing",
        "_steady_tokens_per_round",
        "_tokens_per_round",
    )

    def __init__(self, smoothing: float = GOODPUT_SMOOTHING) -> None:
        self._smoothing = smoothing
        self._tokens_per_round = INITIAL_TOKENS_PER_ROUND
        self._steady_tokens_per_round = INITIAL_TOKENS_PER_ROUND
        self._round_seconds = 0.0
        self._num_rounds = 0

    @property
    def tokens_per_round(self) -> float:
        """Tokens per round, at least 0.01 so that one may divide by it."""
        tokens = self._tokens_per_round
        return tokens if tokens > MIN_TOKENS_PER_ROUND else MIN_TOKENS_PER_ROUND

    @property
    def steady_tokens_per_round(self) -> float:
        """The same, smoothed over `STEADY_ROUNDS`: for what must not follow chance."""
        tokens = self._steady_tokens_per_round
        return tokens if tokens > MIN_TOKENS_PER_ROUND else MIN_TOKENS_PER_ROUND

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second, or `None` before the first round."""
        if self._round_seconds == 0.0:
            return None
        # A ratio of means: the mean of ratios would count short rounds too much.
        return self._tokens_per_round / self._round_seconds

    def observe_round(
        self, num_tokens: int, elapsed_seconds: float, *, writes: bool = True
    ) -> None:
        """Take in one round of the verifier: 0 tokens if the device had no part in it.

        `elapsed_seconds` runs from the round before, so waiting counts. Rounds while a device
        has no open stream are not reported at all; one that does not write yet, but has its
        prompts read, is slow for no reason that would last.
        """
        warm = 1.0 / (self._num_rounds + 2)  # see `warm_step`: every stream pays for a call
        step = self._smoothing if self._smoothing > warm else warm
        self._tokens_per_round += step * (num_tokens - self._tokens_per_round)
        steady_step = STEADY_SMOOTHING if STEADY_SMOOTHING > warm else warm
        if writes:
            steady = self._steady_tokens_per_round
            self._steady_tokens_per_round += steady_step * (num_tokens - steady)
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
            seconds = min(drafting_seconds / num_tokens, MAX_TOKEN_SECONDS)
            self.draft_token_seconds = smoothed(self.draft_token_seconds, seconds, self._smoothing)

    def answer_seconds(self, num_tokens: int) -> float:
        """From a message to the arrival of so many draft tokens, as far as it is known."""
        seconds = num_tokens * (self.draft_token_seconds or 0.0)
        return seconds + (self.round_trip_seconds or 0.0)

    def observe_arrival(self, num_tokens: int, drafting_seconds: float, seconds: float) -> None:
        """Take in how long after its grant the first draft of a path came."""
        if self.round_trip_seconds is not None and self.draft_token_seconds is not None:
            expected_seconds = self.round_trip_seconds + num_tokens * self.draft_token_seconds
            is_punctual = seconds <= latest_arrival_seconds(expected_seconds)
            self.punctuality = smoothed(self.punctuality, float(is_punctual), self._smoothing)
        self.observe_round_trip(max(seconds - drafting_seconds, 0.0))

    def observe_delay(self) -> None:
        """A draft that a stream waited for did not come in time."""
        self.punctuality = smoothed(self.punctuality, 0.0, self._smoothing)

    def observe_round_trip(self, seconds: float) -> None:
        """Take in one measured round trip."""
        self.round_trip_seconds = smoothed(self.round_trip_seconds, seconds, self._smoothing)


# Of a policy that keeps nothing, or has not met the stream yet.
NO_MEMORY = (0.0, 0.0, 0.0)

# How far one round moves what a row is thought to take.
ROW_SMOOTHING = 0.2
# A device whose streams are short must not have each of them taken for a cheap one; what it once
# asked for is half forgotten after 70 of its rows' rounds.
DEAREST_ROW_FADING = 0.99


@dataclass(slots=True)
class StreamEstimates:
    """One stream's own acceptance and rows, and its device's speed (shared, not copied)."""

    acceptance: AcceptanceEstimate
    speed: SpeedEstimate
    goodput: GoodputEstimate  # of its device, as its worker's rounds have it
    row_seconds: float = 0.0  # that sampling takes for one of its rows, smoothed
    has_rows: bool = False  # before that it is the device's word
    chances: DraftChances = field(default_factory=DraftChances)  # of its draft tokens
    draft_pace: DraftPace | None = None  # where its board's drafts are compared
    mode: DraftMode = field(default_factory=DraftMode)
    policy_memory: Sequence[float] = NO_MEMORY  # what the policy keeps with it between plans

    def observe_row(self, seconds: float) -> None:
        """Take in what sampling took for each of its rows in a round that had some."""
        before = self.row_seconds if self.has_rows else None
        self.row_seconds = smoothed(before, seconds, ROW_SMOOTHING)
        self.has_rows = True


@dataclass(slots=True)
class DeviceEstimates:
    """What is kept of a device between its streams; `goodput` sums over its streams."""

    acceptance: AcceptanceEstimate = field(default_factory=AcceptanceEstimate)
    goodput: GoodputEstimate = field(default_factory=GoodputEstimate)
    speed: SpeedEstimate = field(default_factory=SpeedEstimate)
    windows: WindowCounts = field(default_factory=WindowCounts)
    positions: PositionCounts = field(default_factory=PositionCounts)
    calibration: Calibration = field(default_factory=Calibration)  # of its draft model
    row_seconds: float = 0.0  # of its dearest rows lately

    def open_stream(self) -> StreamEstimates:
        """Estimates for a new stream that start from what the device has shown so far."""
        return StreamEstimates(self.acceptance.copy(), self.speed, self.goodput, self.row_seconds)

    def of_another_draft(
        self, calibration: Calibration, draft_token_seconds: float
    ) -> DeviceEstimates:
        """Those of another draft model on the same board: its streams and link stay the same."""
        speed = SpeedEstimate()
        speed.round_trip_seconds = self.speed.round_trip_seconds
        if draft_token_seconds:
            speed.observe_drafting(1, draft_token_seconds)
        return DeviceEstimates(
            goodput=self.goodput,
            speed=speed,
            windows=self.windows,
            positions=self.positions,
            calibration=calibration,
            row_seconds=self.row_seconds,
        )

    def observe_row(self, seconds: float) -> None:
        """A row of one of its streams took so long: what its next stream is taken for at first."""
        self.row_seconds = max(seconds, self.row_seconds * DEAREST_ROW_FADING)

    def observe_counts(
        self,
        own: StreamEstimates,
        num_accepted: int,
        num_rejected: int,
        tokens: Sequence[DraftToken] = (),
    ) -> None:
        """So many drafts of one of its streams were accepted, and then at most one rejected.

        `tokens` begin with these, where it is known which they were.
        """
        if tokens and tokens[0].confidence:
            own.chances.learn(self.calibration, tokens, num_accepted, num_rejected)
        own.acceptance.observe_counts(num_accepted, num_rejected)
        self.acceptance.observe_counts(num_accepted, num_rejected)
        self.positions.observe(num_accepted, num_rejected)

    def observe_commit(
        self, own: StreamEstimates, before: DraftPath, after: DraftPath, num_committed: int
    ) -> None:
        """So many tokens were committed, which made the path `before` that `after`.

        Every live token met what was committed at its position, tested in the round or not.
        """
        is_struck = after.base > before.base
        num_met = min(len(before.live), num_committed)
        num_accepted = after.base - 1 - before.position if is_struck else num_met
        self.observe_counts(own, num_accepted, int(is_struck), before.live)

    def observe_late(self, own: StreamEstimates, late: LateDraft) -> None:
        """Drafts of one of its streams met what was committed before they came."""
        self.observe_counts(own, late.num_right, late.num_wrong)
        if not late.num_wrong:
            self.windows.num_late_tokens += late.num_right

    def observe_probs(
        self,
        own: StreamEstimates,
        accept_probs: Sequence[float],
        num_accepted: int,
        tokens: Sequence[DraftToken] = (),
    ) -> None:
        """Drafts of one of its streams were accepted with these probabilities, and so many were."""
        own.chances.learn(
            self.calibration, tokens, num_accepted, int(num_accepted < len(accept_probs))
        )
        for acceptance in (own.acceptance, self.acceptance):
            acceptance.observe_probs(accept_probs)
        self.positions.observe(num_accepted, int(num_accepted < len(accept_probs)))
