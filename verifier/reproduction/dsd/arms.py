"""Who is compared in DSD's cells, each as it would be run: its window, its routing, its batches."""

from __future__ import annotations

import functools
from typing import Literal, get_args

import msgspec

from verifier.policies import RatePolicy
from verifier.reproduction.dsd.weights_file import SHIPPED, SHIPPED_ALL_INPUTS, read_weights
from verifier.sim.many_verifiers.ahead import AheadArm
from verifier.sim.many_verifiers.arms import Arm, WaitingArm
from verifier.sim.many_verifiers.drawing import DrawnDevices, draw_devices
from verifier.sim.many_verifiers.outcome import ManyOutcome
from verifier.sim.many_verifiers.setting import ManySetting
from verifier.sim.many_verifiers.windows import (
    AwcWindows,
    PerfectWindows,
    StaticWindows,
    ThresholdWindows,
    WindowRule,
)
from verifier.sim.many_verifiers.world import ManyWorld

ArmName = Literal[
    "target alone",
    "static 4",
    "threshold",
    "awc",
    "awc, 7 inputs",
    "perfect window",
    "ours, jsq",
    "ours",
]
ARMS: tuple[ArmName, ...] = get_args(ArmName)
# `rate` without a limit: all arms may slow a device down as far as they like.
NO_LIMIT = 10.0


class Job(msgspec.Struct, frozen=True):
    """One arm in one world."""

    setting: ManySetting
    arm: ArmName
    seed: int


def play_job(job: Job) -> ManyOutcome:
    """What came of it."""
    setting = _routed(job.setting, job.arm)
    drawn = _drawn(job.setting, job.seed)
    return ManyWorld(setting, job.seed, _arm(setting, job.arm), drawn).play()


@functools.lru_cache(maxsize=1)
def _drawn(setting: ManySetting, seed: int) -> DrawnDevices:
    """The same for all arms, which are played one after another: a quarter of the time saved."""
    return draw_devices(setting, seed)


def _routed(setting: ManySetting, name: ArmName) -> ManySetting:
    """Ours is routed by the delay that a request causes, all others to the shortest queue.

    AWC's own length-aware batches would split rounds that are not padded, and cost it tokens.
    """
    if name == "ours":
        return msgspec.structs.replace(setting, routing="least-price")
    return setting


def _arm(setting: ManySetting, name: ArmName) -> Arm:
    if name in ("ours", "ours, jsq"):
        return AheadArm(setting, [RatePolicy() for _ in setting.targets], NO_LIMIT)
    return WaitingArm(setting, _rule(setting, name))


def _rule(setting: ManySetting, name: ArmName) -> WindowRule:
    match name:
        case "static 4":
            return StaticWindows(4)
        case "threshold":
            return ThresholdWindows()
        case "awc":
            return AwcWindows(read_weights(SHIPPED)[0], setting.num_devices)
        case "awc, 7 inputs":
            return AwcWindows(read_weights(SHIPPED_ALL_INPUTS)[0], setting.num_devices)
        case "perfect window":
            return PerfectWindows()
        case _:
            return StaticWindows(0)
