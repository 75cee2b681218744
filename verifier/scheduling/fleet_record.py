"""What is known of those who chat together: whether drafts pay, and when that is measured next.

What is confirmed is measured ever more rarely, sooner where the pace changes. A first measurement
takes as long as it needs where drafts seem to slow streams down; where all is well as it is, it
goes on in turns that take a tenth of the time. Pure, without a clock. This module must never know
who they are.
"""

from __future__ import annotations

import math
from enum import Enum

from shared.speculation.paired_test import Finding, PairedTest
from shared.speculation.smoothing import smoothed
from verifier.scheduling.draft_trial import Arm
from verifier.scheduling.round_facts import RoundFacts

# Rounds and seconds in which estimates of speed and acceptance settle, before a fleet is first
# measured: a first answer is not the time for it.
FIRST_ROUNDS = 8
FIRST_SECONDS = 5.0
# While pairs so far speak for what is done anyway, a first measurement goes on in turns of so many
# pairs, and all the other way takes at most such a part of the time.
PAIRS_IN_TURN = 2
FIRST_OTHER_SHARE = 0.1
# With noise of 0.1 in each, eight pairs prove a difference of 12 %; with 0.2, as on a machine that
# does much else, so many 13 %. What takes so many costs little: the two are near each other.
MOST_FIRST_PAIRS = 24
MOST_PAIRS_AT_ONCE = 8
# What measuring may cost, of the time of all streams. Every confirmation doubles the pause.
COST_SHARE = 0.01
LEAST_PAUSE_SECONDS = 10.0
MOST_PAUSE_SECONDS = 600.0  # but for what is owed
# A difference that is not proven may still be there.
LEAST_LOSS = 0.02
# Another pace, or other gains: measured anew.
PACE_FACTOR = 1.5
PACE_SMOOTHING = 0.03
PACE_ROUNDS = 100
# Where boards are let draft in fewer rounds, there is little to compare: probes of the guard.
LEAST_LETTING_DRAFT = 0.25
# Where streams are 2.25 times as fast with drafts the first pair says so: that is done anyway. That
# boards are to rest takes two: beside other work rounds take twice as long for seconds at a time.
# With the deviation of whole blocks, 0.1, a test with short ones would err a quarter more often.
LEAST_PAIRS, LEAST_PAIRS_AGAINST = 1, 2
PRIOR_DEVIATION = 0.12
# How often a first measurement may be cut short by others who chat before it has to pause.
MOST_FREE_CUTS = 24


class Standing(Enum):
    """What is known of a fleet."""

    BELIEVED = "believed"  # nothing was proven: what the model says holds
    FASTER = "faster"
    SLOWER = "slower"


class FleetRecord:
    """What is known of one fleet, and when it is measured next."""

    def __init__(self, settled: Arm) -> None:
        self.settled = settled
        self.standing = Standing.BELIEVED
        self.log_ratio: float | None = None  # drafts over none
        self.alone_rate: float | None = None  # tokens per second of a stream
        self.test = _test()
        self._num_rounds = 0
        self._seconds = 0.0  # of its rounds since it was measured
        self._pause_seconds = FIRST_SECONDS
        self._growth = 1
        self._num_cuts = 0
        self._letting_draft: float | None = None  # part of the rounds with a window for some board
        self._pace = _Pace()

    @property
    def is_due(self) -> bool:
        """Whether it is time, and there is something to compare."""
        if self._num_rounds < FIRST_ROUNDS or self._seconds < self._pause_seconds:
            return False
        return self.settled is Arm.ALONE or (self._letting_draft or 0.0) > LEAST_LETTING_DRAFT

    @property
    def has_changed(self) -> bool:
        """Whether rounds are no longer as they were when it was measured."""
        return self._pace.has_changed

    @property
    def test_loss(self) -> float:
        """The part that a stream loses in the slower arm, as far as it is known."""
        return max(1.0 - math.exp(-abs(self.test.mean)), LEAST_LOSS)

    def has_enough(self, num_pairs: int) -> bool:
        """Whether a trial of so many pairs has to end though nothing is proven."""
        if self.log_ratio is not None:
            return num_pairs >= MOST_PAIRS_AT_ONCE
        has_taken_turn = num_pairs >= PAIRS_IN_TURN and self._looks_right
        return has_taken_turn or len(self.test) >= MOST_FIRST_PAIRS

    @property
    def finding(self) -> Finding:
        """What is proven; nothing as yet, where it has too few pairs to let boards rest by."""
        found = self.test.finding
        is_early = found is Finding.SLOWER and len(self.test) < LEAST_PAIRS_AGAINST
        return Finding.NOTHING if is_early else found

    @property
    def _looks_right(self) -> bool:
        """Whether what was measured so far, if anything, speaks for what is done anyway."""
        mean = self.test.mean
        return mean > 0.0 if self.settled is Arm.DRAFTS else mean < 0.0

    @property
    def _is_first(self) -> bool:
        """Whether it is not over what is measured first, and nothing has come of it yet."""
        is_over = len(self.test) >= MOST_FIRST_PAIRS or self.finding is not Finding.NOTHING
        return self.log_ratio is None and not is_over

    def observe(self, facts: RoundFacts, arm: Arm) -> None:
        """A round of this fleet."""
        self._num_rounds += 1
        self._seconds += facts.seconds
        if arm is not self.settled:
            return
        if arm is Arm.DRAFTS:
            lets_draft = float(facts.has_windows)
            self._letting_draft = smoothed(self._letting_draft, lets_draft, PACE_SMOOTHING)
        self._pace.observe(facts)

    def measure_anew(self) -> None:
        """It is due at once, and what was proven of another time counts for nothing."""
        self._pause_seconds = 0.0
        self._growth = 1
        self.test = _test()
        self._pace = _Pace()

    def interrupt(self, lost_seconds: float, other_seconds: float) -> None:
        """Others chat now: what was measured so far counts when the fleet is back."""
        self._num_cuts += 1
        if self.log_ratio is None and self._num_cuts <= MOST_FREE_CUTS:
            self._go_on_later(other_seconds)
        else:
            self._seconds, self._pause_seconds = 0.0, lost_seconds / COST_SHARE

    def _go_on_later(self, other_seconds: float) -> None:
        """With a first measurement; at once where it seems to be in time to change something."""
        self._seconds = 0.0
        self._pause_seconds = other_seconds / FIRST_OTHER_SHARE if self._looks_right else 0.0

    def conclude(self, lost_seconds: float, other_seconds: float) -> None:
        """A trial has ended that cost so much, and took so long for the other way."""
        if self._is_first and self._looks_right:
            self._go_on_later(other_seconds)
            return
        finding = self.finding
        settled = _SETTLED.get(finding, self.settled)
        self._growth = 2 * self._growth if settled is self.settled else 1
        if len(self.test) >= LEAST_PAIRS:
            self.log_ratio = self.test.mean
        if finding is not Finding.NOTHING:
            self.standing = _STANDING[finding]
            self.test = _test()
        if settled is not self.settled:
            self._letting_draft = None
        self.settled = settled
        self._seconds = 0.0
        owed_seconds = lost_seconds / COST_SHARE
        wanted_seconds = self._growth * max(owed_seconds, LEAST_PAUSE_SECONDS)
        self._pause_seconds = max(min(wanted_seconds, MOST_PAUSE_SECONDS), owed_seconds)
        self._pace = _Pace()


def _test() -> PairedTest:
    return PairedTest(LEAST_PAIRS, PRIOR_DEVIATION)


_SETTLED = {Finding.FASTER: Arm.DRAFTS, Finding.SLOWER: Arm.ALONE}
_STANDING = {Finding.FASTER: Standing.FASTER, Finding.SLOWER: Standing.SLOWER}


class _Pace:
    """Seconds of a round and tokens of a stream in it, now and when it was measured."""

    def __init__(self) -> None:
        self._num_rounds = 0
        self._seconds: float | None = None
        self._tokens: float | None = None
        self._measured: tuple[float, float] | None = None

    def observe(self, facts: RoundFacts) -> None:
        tokens = facts.num_tokens / max(facts.num_streams, 1)
        self._seconds = smoothed(self._seconds, facts.seconds, PACE_SMOOTHING)
        self._tokens = smoothed(self._tokens, tokens, PACE_SMOOTHING)
        self._num_rounds += 1
        if self._num_rounds == PACE_ROUNDS:
            self._measured = self._seconds, self._tokens

    @property
    def has_changed(self) -> bool:
        if self._measured is None or not self._seconds or not self._tokens:
            return False
        now = self._seconds, self._tokens
        return any(
            not 1.0 / PACE_FACTOR < new / max(old, 1e-9) < PACE_FACTOR
            for new, old in zip(now, self._measured, strict=True)
        )
