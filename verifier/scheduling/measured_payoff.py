"""Whether drafts make streams faster, by measurement: it overrules what the cost model believes.

The model counts tokens and seconds of the target. It cannot know that boards take the verifier's
own cores, that a link is shared, or that a machine grows hot. So rounds with and without drafts are
compared now and then, and drafts rest while they are proven to slow all streams down.

Who chats is what counts: the devices by name where they are few, else how many there are. For each
such fleet it is known what holds; it is measured again ever more rarely as it is confirmed, sooner
where the pace changes, and never so often that it costs more than a hundredth of the time. Only the
first measurement of a fleet is free of that: it ends when it has proven something, after
`MOST_FIRST_PAIRS` at the latest. Pure, without a clock: rounds bring their seconds, and time in
which no stream writes does not count. This module must never say how much is drafted.
"""

from __future__ import annotations

import math
from enum import Enum

from shared.speculation.smoothing import smoothed
from verifier.scheduling.draft_trial import Arm, DraftTrial
from verifier.scheduling.paired_test import LEAST_PAIRS, Finding, PairedTest
from verifier.scheduling.round_facts import RoundFacts

# Rounds in which estimates of speed and acceptance settle, before a fleet is first measured.
FIRST_ROUNDS = 8
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
# Another pace, or other gains: measured anew if no more than this was spent beyond the share.
PACE_FACTOR = 1.5
PACE_SMOOTHING = 0.03
PACE_ROUNDS = 100
BEYOND_SHARE_SECONDS = 2.0
# Where boards are let draft in fewer rounds, there is little to compare: probes of the guard.
LEAST_LETTING_DRAFT = 0.25
# Devices that are told apart by name, and fleets that are remembered.
FEW_DEVICES = 4
MOST_FLEETS = 256
# For so long a device belongs to those who chat though it has no stream: the next question comes.
MEMBER_SECONDS = 4.0
# All of them must write for so many rounds before a trial is begun: only rounds of the same streams
# are compared.
WHOLE_ROUNDS = 4
# How often a first measurement may be cut short by others who chat before it has to pause.
MOST_FREE_CUTS = 24

Fleet = frozenset[str] | int


class Standing(Enum):
    """What is known of a fleet."""

    BELIEVED = "believed"  # nothing was proven: what the model says holds
    FASTER = "faster"
    SLOWER = "slower"


class MeasuredPayoff:
    """Mutable state of one verifier."""

    def __init__(self) -> None:
        self._fleets: dict[Fleet, _Record] = {}  # the one that chatted last stands last
        self._fleet: Fleet | None = None
        self._seen: dict[str, float] = {}  # when which device had a stream last
        self._num_whole = 0  # rounds in which all of them wrote, one after the other
        self._trial: DraftTrial | None = None
        self._seconds = 0.0  # of rounds so far
        self.lost_seconds = 0.0
        """What measuring has cost so far, in seconds of all streams."""

    @property
    def arm(self) -> Arm:
        """What boards are to do now."""
        if self._trial is not None:
            return self._trial.arm
        record = self._record
        return Arm.DRAFTS if record is None else record.settled

    @property
    def standing(self) -> Standing:
        """What is known of those who chat."""
        return Standing.BELIEVED if self._record is None else self._record.standing

    @property
    def num_fleets(self) -> int:
        """Of which something is remembered."""
        return len(self._fleets)

    @property
    def is_measuring(self) -> bool:
        """Whether rounds are compared just now."""
        return self._trial is not None

    @property
    def drafts_over_none(self) -> float | None:
        """Tokens per second with drafts over those without, as measured last; None: never."""
        record = self._record
        return None if record is None or record.log_ratio is None else math.exp(record.log_ratio)

    @property
    def alone_tokens_per_second(self) -> float | None:
        """What the target alone gave each stream of those who chat, measured last; None: never."""
        return None if self._record is None else self._record.alone_rate

    @property
    def rest_sentence(self) -> str | None:
        """Why no board drafts now, for people; None: they may."""
        if self.arm is Arm.DRAFTS:
            return None
        record = self._record
        if record is None or record.settled is Arm.DRAFTS:
            return "drafts pause for a moment: it is measured what they are worth"
        if record.log_ratio is None:
            return "drafts are off: measured slower with them for as many other devices"
        slower = max(1.0 - math.exp(record.log_ratio), 0.0)
        return f"drafts are off: measured {slower:.0%} slower with them"

    def observe(self, facts: RoundFacts) -> None:
        """Learn from a finished round."""
        if not facts.may_draft:
            return
        self._seconds += facts.seconds
        writers = _fleet_of(facts.devices)
        self._follow(self._members(facts.devices | facts.reading_devices))
        record = self._record
        assert record is not None, "the first round has a fleet"
        if not facts.reads_prompts:
            is_whole = _are_alike(writers, self._fleet)
            self._num_whole = self._num_whole + 1 if is_whole else 0
            if is_whole:
                record.observe(facts, self.arm)
        if self._trial is None:
            self._begin_if_due(record)
        else:
            self._compare(record, self._trial, facts, writers)

    @property
    def _record(self) -> _Record | None:
        return None if self._fleet is None else self._fleets[self._fleet]

    def _members(self, devices: frozenset[str]) -> Fleet:
        """Who chats now: those with open streams, and those who had some a moment ago."""
        self._seen.update(dict.fromkeys(devices, self._seconds))
        if len(self._seen) > len(devices):
            since = self._seconds - MEMBER_SECONDS
            self._seen = {name: at for name, at in self._seen.items() if at >= since}
        return _fleet_of(frozenset(self._seen))

    def _follow(self, fleet: Fleet) -> None:
        """Notice that others chat now."""
        if _are_alike(fleet, self._fleet):
            return
        self._end_trial(is_cut=True)
        known = self._fleets.pop(fleet, None)
        self._fleets[fleet] = known or _Record(self._arm_of_size(fleet))
        if len(self._fleets) > MOST_FLEETS:
            del self._fleets[next(iter(self._fleets))]
        self._fleet = fleet

    def _arm_of_size(self, fleet: Fleet) -> Arm:
        """What a fleet begins with of which nothing is known: as the latest of its size."""
        of_size = [known for other, known in self._fleets.items() if _size(other) == _size(fleet)]
        return of_size[-1].settled if of_size else Arm.DRAFTS

    def _begin_if_due(self, record: _Record) -> None:
        allowed_seconds = BEYOND_SHARE_SECONDS + COST_SHARE * self._seconds
        if record.has_changed and self.lost_seconds <= allowed_seconds:
            record.measure_anew()
        if record.is_due and self._num_whole >= WHOLE_ROUNDS:
            self._trial = DraftTrial(record.settled)

    def _compare(
        self, record: _Record, trial: DraftTrial, facts: RoundFacts, writers: Fleet
    ) -> None:
        log_ratio = trial.observe(facts, writers)
        record.alone_rate = trial.alone_rate or record.alone_rate
        if log_ratio is not None:
            record.test.add(log_ratio)
        is_proven = log_ratio is not None and record.test.finding is not Finding.NOTHING
        if is_proven or record.has_enough(trial.num_pairs) or trial.is_futile:
            self._end_trial()

    def _end_trial(self, *, is_cut: bool = False) -> None:
        """Keep what was proven, and pay for it with a pause."""
        trial, record = self._trial, self._record
        self._trial = None
        if trial is None or record is None:
            return
        lost_seconds = trial.other_seconds * record.test_loss
        self.lost_seconds += lost_seconds
        if is_cut:
            record.interrupt(lost_seconds)
        else:
            record.conclude(lost_seconds)


class _Record:
    """What is known of one fleet, and when it is measured next."""

    def __init__(self, settled: Arm) -> None:
        self.settled = settled
        self.standing = Standing.BELIEVED
        self.log_ratio: float | None = None  # drafts over none
        self.alone_rate: float | None = None  # tokens per second of a stream
        self.test = PairedTest()
        self._num_rounds = 0
        self._seconds = 0.0  # of its rounds since it was measured
        self._pause_seconds = 0.0
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
        if self.log_ratio is None:
            return len(self.test) >= MOST_FIRST_PAIRS
        return num_pairs >= MOST_PAIRS_AT_ONCE

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
        self.test = PairedTest()
        self._pace = _Pace()

    def interrupt(self, lost_seconds: float) -> None:
        """Others chat now: what was measured so far counts when the fleet is back."""
        self._num_cuts += 1
        is_free = self.log_ratio is None and self._num_cuts <= MOST_FREE_CUTS
        self._seconds = 0.0
        self._pause_seconds = 0.0 if is_free else lost_seconds / COST_SHARE

    def conclude(self, lost_seconds: float) -> None:
        """A trial has ended that cost so much."""
        finding = self.test.finding
        settled = _SETTLED.get(finding, self.settled)
        self._growth = 2 * self._growth if settled is self.settled else 1
        if len(self.test) >= LEAST_PAIRS:
            self.log_ratio = self.test.mean
        if finding is not Finding.NOTHING:
            self.standing = _STANDING[finding]
            self.test = PairedTest()
        if settled is not self.settled:
            self._letting_draft = None
        self.settled = settled
        self._seconds = 0.0
        owed_seconds = lost_seconds / COST_SHARE
        wanted_seconds = self._growth * max(owed_seconds, LEAST_PAUSE_SECONDS)
        self._pause_seconds = max(min(wanted_seconds, MOST_PAUSE_SECONDS), owed_seconds)
        self._pace = _Pace()


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


def _fleet_of(devices: frozenset[str]) -> Fleet:
    """Few by name, else about how many: steps of a quarter."""
    if len(devices) <= FEW_DEVICES:
        return devices
    return round(math.log(len(devices)) / math.log(1.25))


def _are_alike(fleet: Fleet, other: Fleet | None) -> bool:
    """Whether rounds of both may be compared: of many, a step more or less."""
    if isinstance(fleet, int) and isinstance(other, int):
        return abs(fleet - other) <= 1
    return fleet == other


def _size(fleet: Fleet) -> int:
    return fleet if isinstance(fleet, int) else -len(fleet)
