"""Who is compared in DSD's cells, each as it would be run: its window, its routing, its batches.

*Ahead*: streams never wait, as in our verifier, but the window is DSD's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import msgspec

from verifier.policies import RatePolicy
from verifier.policies.awc_weights import SHIPPED, SHIPPED_WAITING, read_weights
from verifier.sim.many_verifiers.ahead import AheadArm, PolicyDecider, WindowDecider
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
    "awc, 8 inputs",
    "perfect window",
    "static 4 ahead",
    "awc ahead",
    "awc ahead, 8 inputs",
    "ours, jsq",
    "ours, placement",
    "ours",
]
ARMS: tuple[ArmName, ...] = get_args(ArmName)
_HERE = Path(__file__).parent
# Of the networks; those with all inputs are what rounds.policy = "awc" goes by.
WEIGHTS: Mapping[ArmName, Path] = {
    "awc": _HERE / "awc_waiting.json",
    "awc, 8 inputs": SHIPPED_WAITING,
    "awc ahead": _HERE / "awc_ahead.json",
    "awc ahead, 8 inputs": SHIPPED,
}
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

    Or, as a verifier does it over many workers, by a stream's price in log goodput.
    AWC's own length-aware batches would split rounds that are not padded, and cost it tokens.
    """
    match name:
        case "ours":
            return msgspec.structs.replace(setting, routing="least-price")
        case "ours, placement":
            return msgspec.structs.replace(setting, routing="placement")
        case _:
            return setting


def _arm(setting: ManySetting, name: ArmName) -> Arm:
    if name.startswith("ours"):
        policies = [RatePolicy() for _ in setting.targets]
        return AheadArm(PolicyDecider(setting, policies, NO_LIMIT))
    rule = _rule(setting, name)
    if "ahead" in name:
        return AheadArm(WindowDecider(setting, rule))
    return WaitingArm(setting, rule)


def _rule(setting: ManySetting, name: ArmName) -> WindowRule:
    if name in WEIGHTS:
        return AwcWindows(read_weights(WEIGHTS[name])[0], setting.num_devices)
    match name:
        case "static 4" | "static 4 ahead":
            return StaticWindows(4)
        case "threshold":
            return ThresholdWindows()
        case "perfect window":
            return PerfectWindows()
        case _:
            return StaticWindows(0)
