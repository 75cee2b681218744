"""Streams that never wait: every round takes each of them, with what of its draft is there.

A board drafts on along its own path while verdicts travel; what a round commits is struck off that
path, and where the target's own token is another one the path begins anew. Which tokens a round
tests, and how far boards may draft, is decided by the verifier's own policy. This module must never
decide that itself.
"""

from __future__ import annotations

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
from verifier.sim.many_verifiers.arms import Verdicts
from verifier.sim.many_verifiers.setting import ManySetting
from verifier.sim.many_verifiers.state import Devices, Targets

# Of a board that is granted nothing, a few tokens now and then show what they are worth.
PROBE_ROUNDS = 32
PROBE_LENGTH = 4
MAX_DRAFT = 64


class AheadArm:
    """A policy for each verifier."""

    def __init__(
        self, setting: ManySetting, policies: list[DraftPolicy], slowdown_limit: float
    ) -> None:
        self._policies = policies
        self._limits = BudgetLimits(
            max_round_tokens=4096, budget_tokens=None, slowdown_limit=slowdown_limit
        )
        self._own = np.zeros(setting.num_devices, dtype=np.int64)  # lengths of the latest plan

    def tested(self, devices: Devices, targets: Targets, decoding: IntArray) -> IntArray:
        """See `Arm`."""
        live = _live(devices, targets.now[devices.target[decoding]], decoding)
        live = np.minimum(live, np.maximum(devices.output_left[decoding] - 1, 0))
        tested = np.zeros(len(decoding), dtype=np.int64)
        of_target = devices.target[decoding]
        for target in np.unique(of_target[live > 0]).tolist():
            rows = np.flatnonzero(of_target == target)
            tested[rows] = self._choose(devices, targets, target, decoding[rows], live[rows])
        return tested

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
        self._plan(devices, targets, verdicts)
        which = verdicts.which
        devices.ready_at[which] = verdicts.ended_at
        told_at = verdicts.ended_at + verdicts.down_seconds
        windows = devices.window[which]
        token_seconds = devices.draft_token_seconds[which]
        begun_at, limits = devices.path_begun_at[which], devices.path_limit[which]
        _live(devices, verdicts.ended_at, which)  # notes what has arrived by the next round
        passed = devices.path_passed[which] + verdicts.num_tested + 1
        # `path_begun_at` is as the verifier sees it, one message later than at the board. The board
        # goes on with its path if all of it was right, its guess of the own token too, and it has
        # come so far by the time that it is told.
        seen_at = told_at + verdicts.up_seconds
        drafted = np.floor(np.maximum(seen_at - begun_at, 0.0) / token_seconds)
        idled = drafted > limits
        drafted = np.where(np.isfinite(begun_at), np.minimum(drafted, limits), 0.0)
        goes_on = (verdicts.runs > verdicts.num_tested) & (drafted >= passed)
        resumed_at = np.where(idled, seen_at - limits * token_seconds, begun_at)
        devices.path_begun_at[which] = np.where(goes_on, resumed_at, seen_at)
        devices.path_passed[which] = np.where(goes_on, passed, 0)
        devices.path_limit[which] = np.where(goes_on, passed, 0) + windows
        devices.path_arrived[which] = np.where(goes_on, devices.path_arrived[which], 0)

    def _plan(self, devices: Devices, targets: Targets, verdicts: Verdicts) -> None:
        of_target = devices.target[verdicts.which]
        for target in np.unique(of_target).tolist():
            which = verdicts.which[of_target == target]
            outlook = _outlook(devices, targets, target, which, MAX_DRAFT * len(which))
            plan = self._policies[target].plan(outlook, self._limits)
            self._own[which] = plan.lengths
            depths = plan.lengths if plan.depths is None else plan.depths
            probes = (devices.rounds[which] % PROBE_ROUNDS == 0) * PROBE_LENGTH
            devices.window[which] = np.minimum(np.maximum(depths, probes), MAX_DRAFT)

    def _choose(
        self, devices: Devices, targets: Targets, target: int, which: IntArray, live: IntArray
    ) -> IntArray:
        num_room = int(live.sum())
        drafts = LiveDrafts(
            num_testable=live.tolist(),
            own_lengths=self._own[which].tolist(),
            prices=[1.0] * len(which),
            is_whole=[False] * len(which),
            budget=float(num_room),
            num_room=num_room,
        )
        chosen = self._policies[target].choose(
            drafts, lambda: _outlook(devices, targets, target, which, num_room)
        )
        return np.array(chosen, dtype=np.int64)


def _live(devices: Devices, now: FloatArray, which: IntArray) -> IntArray:
    """Draft tokens beyond the committed end that are at the verifier; notes how many came."""
    seconds = np.maximum(now - devices.path_begun_at[which], 0.0)  # 0 where no path was begun
    came = np.floor(seconds / devices.draft_token_seconds[which])
    came = np.minimum(came, devices.path_limit[which]).astype(np.int64)
    arrived = np.maximum(came, devices.path_arrived[which])
    devices.path_arrived[which] = arrived
    live: IntArray = np.maximum(arrived - devices.path_passed[which], 0)
    return live


def _outlook(
    devices: Devices, targets: Targets, target: int, which: IntArray, most_drafts: int
) -> Outlook:
    ones = np.ones(len(which))
    streams = OpenStreams(
        acceptance_rates=devices.acceptance[which],
        num_observed=devices.num_observed[which].astype(np.float64),
        goodputs=devices.goodput[which],
        steady_goodputs=devices.steady_goodput[which],
        weights=ones,
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
