"""How streams draft: waiting for their own draft, as in DSD, or never waiting, as ours do.

An arm says what a round tests of each stream, and what follows from a verdict.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.policies.awc import AwcInputs
from verifier.policies.new_boards import believed_rates
from verifier.sim.many_verifiers.message_times import TOKEN_BYTES, byte_seconds
from verifier.sim.many_verifiers.setting import ManySetting
from verifier.sim.many_verifiers.state import Devices, Targets
from verifier.sim.many_verifiers.windows import WindowInputs, WindowRule


class Verdicts(NamedTuple):
    """What the rounds that just ended gave; all [num_verdicts]."""

    which: IntArray  # devices
    ended_at: FloatArray
    round_seconds: FloatArray
    num_tested: IntArray
    num_right: IntArray  # of these, up to the first wrong one
    runs: IntArray  # right draft tokens in a row from the old end on
    down_seconds: FloatArray  # of the verdict's message
    up_seconds: FloatArray  # of a draft's
    up_resent_seconds: FloatArray  # of these: until it was sent for the last time


class Arm(Protocol):
    """A way of drafting."""

    def tested(self, devices: Devices, targets: Targets, decoding: IntArray) -> IntArray:
        """Draft tokens that the round which starts now tests of each of these streams."""
        ...

    def settle(self, devices: Devices, targets: Targets, verdicts: Verdicts) -> None:
        """Windows, and when each stream is ready again."""
        ...

    def observes(self, devices: Devices, verdicts: Verdicts) -> None:
        """What is learnt of acceptance."""
        ...


class WaitingArm:
    """Each stream waits until its own draft is there: drafting and a round trip after a verdict."""

    def __init__(self, setting: ManySetting, rule: WindowRule) -> None:
        self._setting = setting
        self._rule = rule

    def tested(self, devices: Devices, targets: Targets, decoding: IntArray) -> IntArray:
        """See `Arm`: what came is tested whole."""
        return devices.window[decoding]

    def observes(self, devices: Devices, verdicts: Verdicts) -> None:
        """See `Arm`."""
        num_wrong = (verdicts.num_right < verdicts.num_tested).astype(np.int64)
        devices.observe(verdicts.which, verdicts.num_right, num_wrong)

    def settle(self, devices: Devices, targets: Targets, verdicts: Verdicts) -> None:
        """See `Arm`."""
        which = verdicts.which
        inputs = window_inputs(self._setting, devices, targets, verdicts, devices.window)
        windows = self._rule.windows(inputs)
        devices.window[which] = windows
        sending = byte_seconds(self._setting) * TOKEN_BYTES * np.maximum(windows - 1, 0)
        drafting = windows * devices.draft_token_seconds[which] + sending
        waits = verdicts.down_seconds + drafting + verdicts.up_seconds
        devices.ready_at[which] = verdicts.ended_at + np.where(windows > 0, waits, 0.0)


def window_inputs(
    setting: ManySetting,
    devices: Devices,
    targets: Targets,
    verdicts: Verdicts,
    windows: IntArray,
) -> WindowInputs:
    """What a rule may know after these verdicts; `windows` are those before it [num_devices]."""
    which = verdicts.which
    added_seconds = targets.token_seconds[devices.target[which]]
    return WindowInputs(
        which=which,
        awc=awc_inputs(setting, devices, targets, which, windows),
        true_acceptance=devices.drawn.acceptance[which],
        bare_seconds=verdicts.round_seconds - added_seconds * verdicts.num_tested,
        added_seconds=added_seconds,
    )


def awc_inputs(
    setting: ManySetting,
    devices: Devices,
    targets: Targets,
    which: IntArray,
    windows: IntArray,
) -> AwcInputs:
    """What AWC sees of these devices; `windows` are of all of them."""
    target = devices.target[which]
    added_seconds = targets.token_seconds[target] * targets.mean_waiting[target]
    return AwcInputs(
        queue_utilisation=targets.mean_waiting[target] / setting.max_batch,
        acceptance_rates=believed_rates(devices.acceptance[which], devices.num_observed[which]),
        round_trip_seconds=np.full(len(which), setting.round_trip_seconds),
        token_seconds=devices.token_seconds[which],
        windows=windows[which].astype(np.float64),
        draft_token_seconds=devices.draft_token_seconds[which],
        round_seconds=targets.mean_seconds[target],
        round_growth=added_seconds / targets.mean_seconds[target],
    )
