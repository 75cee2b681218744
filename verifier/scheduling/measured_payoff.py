"""Whether drafts make streams faster, by measurement: it overrules what the cost model believes.

The model counts tokens and seconds of the target. It cannot know that boards take the verifier's
own cores, that a link is shared, or that a machine grows hot. So rounds with and without drafts are
compared now and then, and drafts rest while they are proven to slow all streams down.

Who chats is what counts: the devices by name where they are few, else how many there are. For each
such fleet it is known what holds (`fleet_record`); measuring costs less than a hundredth of the
time, but for a fleet's first measurement. Pure, without a clock: rounds bring their seconds, and
time in which no stream writes does not count. This module must never say how much is drafted.
"""

from __future__ import annotations

import math

from shared.speculation.paired_test import Finding
from verifier.scheduling.draft_trial import Arm, DraftTrial
from verifier.scheduling.fleet_record import COST_SHARE, FleetRecord, Standing
from verifier.scheduling.round_facts import RoundFacts

# Beyond its share of the time, what measuring may have cost where another pace calls for it.
BEYOND_SHARE_SECONDS = 2.0
# Devices that are told apart by name, and fleets that are remembered.
FEW_DEVICES = 4
MOST_FLEETS = 256
# For so long a device belongs to those who chat though it has no stream: the next question comes.
MEMBER_SECONDS = 4.0
# All of them must write for so many rounds before a trial is begun: only rounds of the same streams
# are compared.
WHOLE_ROUNDS = 4

Fleet = frozenset[str] | int


class MeasuredPayoff:
    """Mutable state of one verifier."""

    def __init__(self) -> None:
        self._fleets: dict[Fleet, FleetRecord] = {}  # the one that chatted last stands last
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
    def _record(self) -> FleetRecord | None:
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
        self._fleets[fleet] = known or FleetRecord(self._arm_of_size(fleet))
        if len(self._fleets) > MOST_FLEETS:
            del self._fleets[next(iter(self._fleets))]
        self._fleet = fleet

    def _arm_of_size(self, fleet: Fleet) -> Arm:
        """What a fleet begins with of which nothing is known: as the latest of its size."""
        of_size = [known for other, known in self._fleets.items() if _size(other) == _size(fleet)]
        return of_size[-1].settled if of_size else Arm.DRAFTS

    def _begin_if_due(self, record: FleetRecord) -> None:
        allowed_seconds = BEYOND_SHARE_SECONDS + COST_SHARE * self._seconds
        if record.has_changed and self.lost_seconds <= allowed_seconds:
            record.measure_anew()
        if record.is_due and self._num_whole >= WHOLE_ROUNDS:
            self._trial = DraftTrial(record.settled, len(record.test))

    def _compare(
        self, record: FleetRecord, trial: DraftTrial, facts: RoundFacts, writers: Fleet
    ) -> None:
        log_ratio = trial.observe(facts, writers)
        record.alone_rate = trial.alone_rate or record.alone_rate
        if log_ratio is not None:
            record.test.add(log_ratio)
        is_proven = log_ratio is not None and record.finding is not Finding.NOTHING
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
            record.interrupt(lost_seconds, trial.other_seconds)
        else:
            record.conclude(lost_seconds, trial.other_seconds)


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
