"""Streams that never wait: every round takes each of them, with what of its draft is there.

A board drafts on along its own path while verdicts travel; what a round commits is struck off that
path, and where the target's own token is another one the path begins anew. Which tokens a round
tests, and how far boards may draft, is decided by the verifier's own policy, or by a rule for
windows. This module must never decide that itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.policies import (
    BudgetLimits,
    DraftPolicy,
    LiveDrafts,
    OpenStreams,
    Outlook,
    RoundTimes,
)
from verifier.policies.awc import depths_ahead
from verifier.sim.many_verifiers.arms import Verdicts, window_inputs
from verifier.sim.many_verifiers.setting import ManySetting
from verifier.sim.many_verifiers.state import Devices, Targets
from verifier.sim.many_verifiers.windows import WindowRule

# Of a board that is granted nothing, a few tokens now and then show what they are worth.
PROBE_ROUNDS = 32
PROBE_LENGTH = 4
MAX_DRAFT = 64


class Decider(Protocol):
    """Says how far boards draft, and what a round tests."""

    def depths(self, devices: Devices, targets: Targets, verdicts: Verdicts) -> IntArray:
        """After these verdicts, beyond the committed end; sets `Devices.own_length`."""
        ...

    def chosen(
        self, devices: Devices, targets: Targets, which: IntArray, live: IntArray
    ) -> IntArray:
        """Of the live tokens of these devices, those that the round which starts now tests."""
        ...


class AheadArm:
    """Streams that never wait; how far they draft is a decider's word."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider

    def tested(self, devices: Devices, targets: Targets, decoding: IntArray) -> IntArray:
        """See `Arm`."""
        live = _live(devices, targets.now[devices.target[decoding]], decoding)
        live = np.minimum(live, np.maximum(devices.output_left[decoding] - 1, 0))
        return self._decider.chosen(devices, targets, decoding, live)

    def observes(self, devices: Devices, verdicts: Verdicts) -> None:
        """See `Arm`; the target's own token shows too what a draft that is there was worth."""
        which, num_tested = verdicts.which, verdicts.num_tested
        missed = (verdicts.num_right < num_tested).astype(np.int64)
        starts = verdicts.ended_at - verdicts.round_seconds
        has_next = (_live(devices, starts, which) > num_tested) & (missed == 0)
        next_is_right = (has_next & (verdicts.runs > num_tested)).astype(np.int64)
        next_is_wrong = (has_next & (verdicts.runs <= num_tested)).astype(np.int64)
        devices.observe(which, verdicts.num_right + next_is_right, missed + next_is_wrong)

    def settle(self, devices: Devices, targets: Targets, verdicts: Verdicts) -> None:
        """See `Arm`."""
        which = verdicts.which
        depths = self._decider.depths(devices, targets, verdicts)
        probes = (devices.rounds[which] % PROBE_ROUNDS == 0) * PROBE_LENGTH
        devices.window[which] = np.minimum(np.maximum(depths, probes), MAX_DRAFT)
        devices.ready_at[which] = verdicts.ended_at
        told_at = verdicts.ended_at + verdicts.down_seconds
        windows = devices.window[which]
        token_seconds = devices.arrival_token_seconds[which]
        begun_at, limits = devices.path_begun_at[which], devices.path_limit[which]
        _live(devices, verdicts.ended_at, which)  # notes what has arrived by the next round
        passed = devices.path_passed[which] + verdicts.num_tested + 1
        # `path_begun_at` is as the verifier sees it, one message later than at the board. The board
        # goes on with its path if all of it was right, its guess of the own token too, and it has
        # come so far by the time that it is told.
        seen_at = told_at + verdicts.up_seconds - verdicts.up_resent_seconds
        drafted = np.floor(np.maximum(seen_at - begun_at, 0.0) / token_seconds)
        idled = drafted > limits
        drafted = np.where(np.isfinite(begun_at), np.minimum(drafted, limits), 0.0)
        goes_on = (verdicts.runs > verdicts.num_tested) & (drafted >= passed)
        resumed_at = np.where(idled, seen_at - limits * token_seconds, begun_at)
        devices.path_begun_at[which] = np.where(goes_on, resumed_at, seen_at)
        devices.path_passed[which] = np.where(goes_on, passed, 0)
        devices.path_limit[which] = np.where(goes_on, passed, 0) + windows
        devices.path_arrived[which] = np.where(goes_on, devices.path_arrived[which], 0)
        # A message that is sent again holds up all that the board sends behind it.
        is_resent = verdicts.up_resent_seconds > 0.0
        held_until = np.where(is_resent, told_at + verdicts.up_seconds, 0.0)
        devices.path_held_until[which] = np.maximum(devices.path_held_until[which], held_until)


class PolicyDecider:
    """A policy for each verifier."""

    def __init__(
        self, setting: ManySetting, policies: Sequence[DraftPolicy], slowdown_limit: float
    ) -> None:
        self._setting = setting
        self._policies = policies
        self._limits = BudgetLimits(
            max_round_tokens=4096, budget_tokens=None, slowdown_limit=slowdown_limit
        )

    def depths(self, devices: Devices, targets: Targets, verdicts: Verdicts) -> IntArray:
        """See `Decider`."""
        of_target = devices.target[verdicts.which]
        depths = np.zeros(len(of_target), dtype=np.int64)
        for target in np.unique(of_target).tolist():
            rows = np.flatnonzero(of_target == target)
            which = verdicts.which[rows]
            outlook = self._outlook(devices, targets, target, which, MAX_DRAFT * len(which))
            plan = self._policies[target].plan(outlook, self._limits)
            devices.own_length[which] = plan.lengths
            if plan.memories is not None:
                devices.memories[which] = plan.memories
            depths[rows] = plan.lengths if plan.depths is None else plan.depths
        return depths

    def chosen(
        self, devices: Devices, targets: Targets, which: IntArray, live: IntArray
    ) -> IntArray:
        """See `Decider`."""
        of_target = devices.target[which]
        tested = np.zeros(len(which), dtype=np.int64)
        for target in np.unique(of_target[live > 0]).tolist():
            rows = np.flatnonzero(of_target == target)
            tested[rows] = self._choose(devices, targets, target, which[rows], live[rows])
        return tested

    def _choose(
        self, devices: Devices, targets: Targets, target: int, which: IntArray, live: IntArray
    ) -> IntArray:
        num_room = int(live.sum())
        drafts = LiveDrafts(
            num_testable=live.tolist(),
            own_lengths=devices.own_length[which].tolist(),
            prices=[1.0] * len(which),
            is_whole=[False] * len(which),
            budget=float(num_room),
            num_room=num_room,
        )
        chosen = self._policies[target].choose(
            drafts, lambda: self._outlook(devices, targets, target, which, num_room)
        )
        return np.array(chosen, dtype=np.int64)

    def _outlook(
        self, devices: Devices, targets: Targets, target: int, which: IntArray, most_drafts: int
    ) -> Outlook:
        ones = np.ones(len(which))
        streams = OpenStreams(
            acceptance_rates=devices.acceptance[which],
            num_observed=devices.num_observed[which].astype(np.float64),
            goodputs=devices.goodput[which],
            steady_goodputs=devices.steady_goodput[which],
            weights=ones,
            round_trip_seconds=np.full(len(which), self._setting.round_trip_seconds),
            memories=devices.memories[which],
            num_siblings=ones.astype(np.int64),
            max_lengths=np.minimum(devices.output_left[which], MAX_DRAFT),
            draft_token_seconds=devices.draft_token_seconds[which],
            waits=np.zeros(len(which), dtype=np.bool_),
            best_chances=np.zeros(len(which)),
        )
        counts = len(which) + np.arange(most_drafts + 1)
        seconds = targets.fixed_seconds[target] + targets.token_seconds[target] * counts
        times = RoundTimes(
            seconds, float(targets.mean_seconds[target]), int(targets.num_rounds[target])
        )
        return Outlook(streams, times, float(len(which)))


class WindowDecider:
    """A rule for windows: a round tests what is there, up to the window."""

    def __init__(self, setting: ManySetting, rule: WindowRule) -> None:
        self._setting = setting
        self._rule = rule

    def depths(self, devices: Devices, targets: Targets, verdicts: Verdicts) -> IntArray:
        """See `Decider`."""
        inputs = window_inputs(self._setting, devices, targets, verdicts, devices.own_length)
        lengths = self._rule.windows(inputs)
        devices.own_length[verdicts.which] = lengths
        return depths_ahead(lengths, inputs.awc)

    def chosen(
        self, devices: Devices, targets: Targets, which: IntArray, live: IntArray
    ) -> IntArray:
        """See `Decider`."""
        return np.minimum(live, devices.own_length[which])


def _live(devices: Devices, now: FloatArray, which: IntArray) -> IntArray:
    """Draft tokens beyond the committed end that are at the verifier; notes how many came."""
    seconds = np.maximum(now - devices.path_begun_at[which], 0.0)  # 0 where no path was begun
    came = np.floor(seconds / devices.arrival_token_seconds[which])
    came = np.minimum(came, devices.path_limit[which]).astype(np.int64)
    came = np.where(now < devices.path_held_until[which], 0, came)
    arrived = np.maximum(came, devices.path_arrived[which])
    devices.path_arrived[which] = arrived
    live: IntArray = np.maximum(arrived - devices.path_passed[which], 0)
    return live
