"""Situations for AWC to learn from: each with every window played, and the best one as its label.

A situation is one verifier with some devices: round times, load, round trip, draft speeds and
acceptance are drawn. The paper sweeps windows 2 … 12 and fused mode, and takes the best
SLO-weighted score; its SLOs and weights are not known, ours stand here.

Inputs are those of single devices, as noisy as the network meets them, and half of them come from
devices whose windows change: a network that has seen settled windows only takes the slow tokens
that its own long windows cause for those of a slow verifier, and draws them out further. Boards are
known from before, also those that are fused: else a window of 0 goes with an acceptance that says
nothing, and a network fuses for good whatever it hears of a board then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.policies.awc import ALL_INPUTS, MIN_WINDOW, SMOOTHING
from verifier.policies.new_boards import OPTIMISTIC_POSITIONS
from verifier.sim.many_verifiers.ahead import AheadArm, WindowDecider
from verifier.sim.many_verifiers.arms import WaitingArm, awc_inputs
from verifier.sim.many_verifiers.drawing import DrawnDevices, draw_devices
from verifier.sim.many_verifiers.setting import ManySetting, TargetKind
from verifier.sim.many_verifiers.state import ACCEPTANCE_MEMORY, Devices
from verifier.sim.many_verifiers.windows import WindowInputs
from verifier.sim.many_verifiers.world import ManyWorld

# Whether streams wait for their own draft, as the paper's, or never do.
Drafting = Literal["waiting", "ahead"]

BoolArray = np.typing.NDArray[np.bool_]

SWEPT_WINDOWS = np.array([0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
NUM_COLUMNS = len(SWEPT_WINDOWS) + 1  # verifiers of a situation; windows wander in the last
# A network's output of 1 and less is fused mode. Where streams wait, a draft of two tokens costs
# nearly as much as a long one, and an output between fused mode and the best window is worse than
# either: so fused mode stands apart from the windows there, and outputs go quickly from one to the
# other. Where they never wait, a short draft is no loss.
FUSED_LABELS: Mapping[Drafting, float] = {"waiting": -4.0, "ahead": 1.0}
# Situations that are played side by side.
KINDS_OF_DRAW = 10
NUM_ROUNDS = 60
MOST_DEVICES = 60  # of a verifier
SETTLED_EXAMPLES = 3  # of a situation, with different windows before; the first is fused
WANDERING_EXAMPLES = 3
# Positions of a board that met the target before the situation: from those at which a policy
# believes what it has seen to those that an estimate remembers.
KNOWN_POSITIONS = (OPTIMISTIC_POSITIONS, round(1.0 / (1.0 - ACCEPTANCE_MEMORY)))
# Verdicts until a wandering window has another goal.
WANDERING_ROUNDS = 8.0
# Score: mean ln tokens/s, less this for every part by which the slowest twentieth of the devices
# exceeds 1.5 times the seconds that fused mode takes for a token.
SLO_TIMES_FUSED = 1.5
SLO_WEIGHT = 0.5


class Ranges(NamedTuple):
    """What situations are drawn from, in the logarithm but for acceptance."""

    fixed_seconds: tuple[float, float]
    tokens_of_fixed: tuple[float, float]  # that take as long as a round without any
    acceptance: tuple[float, float]
    draft_tokens_per_second: tuple[float, float]
    round_trip_seconds: tuple[float, float]


# Those of the paper's streams lie around its cells. What runs in verifiers meets any board: beyond
# what it has seen a network may say anything. (So wide, 87 % of the labels of waiting streams are
# fused, and the paper's five inputs tell nothing that the median does not.)
RANGES: Mapping[Drafting, Ranges] = {
    "waiting": Ranges((0.01, 0.2), (40.0, 1000.0), (0.45, 0.94), (20.0, 100.0), (0.001, 0.2)),
    "ahead": Ranges((0.005, 0.2), (15.0, 1000.0), (0.1, 0.95), (8.0, 400.0), (0.001, 0.3)),
}


class Examples(NamedTuple):
    """What AWC learns from."""

    inputs: FloatArray  # [num_examples, 8], scaled
    labels: FloatArray  # [num_examples], best windows; 1 and less: fused
    situations: IntArray  # [num_examples], of which situation each is


class _SweptWindows:
    """Each device keeps its own window, or wanders as one does that a network moves."""

    def __init__(self, windows: IntArray, wanders: BoolArray, random: np.random.Generator) -> None:
        self._wanders = wanders
        self._random = random
        self._goals = windows.astype(np.float64)
        self._smoothed = self._goals.copy()
        self.latest = windows.copy()  # of each device

    def windows(self, inputs: WindowInputs) -> IntArray:
        """See `WindowRule`."""
        which = inputs.which
        turns = self._random.random(len(which)) * WANDERING_ROUNDS < self._wanders[which]
        others = np.maximum(self._random.choice(SWEPT_WINDOWS, len(which)), MIN_WINDOW)
        self._goals[which] = np.where(turns, others, self._goals[which])
        self._smoothed[which] += SMOOTHING * (self._goals[which] - self._smoothed[which])
        windows = np.rint(self._smoothed[which]).astype(np.int64)
        self.latest[which] = np.where(windows > MIN_WINDOW, windows, 0)
        return self.latest[which]


def sweep(
    num_situations: int, seed: int, advance: Callable[[float], None], drafting: Drafting = "waiting"
) -> Examples:
    """All windows in so many situations, rounded up to whole draws."""
    parts: list[Examples] = []
    num_draws = -(-num_situations // KINDS_OF_DRAW)
    for number in range(num_draws):
        parts.append(_draw(np.random.default_rng([seed, number]), number, drafting))
        advance((number + 1) / num_draws)
    return Examples(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _draw(random: np.random.Generator, number: int, drafting: Drafting) -> Examples:
    """Kinds of verifiers that differ, each once for every window; devices are alike for all."""
    setting = _setting(random, drafting)
    num_targets = len(setting.targets)
    members = setting.num_devices // num_targets
    target = np.arange(setting.num_devices) % num_targets
    drawn = _paired(setting, int(random.integers(1 << 31)), target, members)
    rule = _SweptWindows(*_start(random, target, members), random)
    waits = drafting == "waiting"
    arm = WaitingArm(setting, rule) if waits else AheadArm(WindowDecider(setting, rule))
    world = ManyWorld(setting, number, arm, drawn)
    _make_known(world.devices, random, members)
    world.play()
    shape = (members, KINDS_OF_DRAW, NUM_COLUMNS)
    tokens = world.tally.device_tokens.reshape(shape)[:, :, : len(SWEPT_WINDOWS)]
    speeds = np.maximum(tokens, 0.5) / (setting.seconds - setting.warm_up_seconds)
    all_devices = np.arange(setting.num_devices)
    seen = awc_inputs(setting, world.devices, world.targets, all_devices, rule.latest)
    inputs = _examples(random, seen.scaled().reshape(*shape, ALL_INPUTS))
    situations = number * KINDS_OF_DRAW + np.arange(KINDS_OF_DRAW)
    return Examples(
        inputs.reshape(-1, ALL_INPUTS),
        np.repeat(_best_windows(speeds, FUSED_LABELS[drafting]), inputs.shape[1]),
        np.repeat(situations, inputs.shape[1]),
    )


def _start(
    random: np.random.Generator, target: IntArray, members: int
) -> tuple[IntArray, BoolArray]:
    """First windows, and which of them wander: in the last column any part, the others fused."""
    windows = np.append(SWEPT_WINDOWS, 0)[target % NUM_COLUMNS]
    parts = np.zeros((KINDS_OF_DRAW, NUM_COLUMNS))
    parts[:, -1] = random.random(KINDS_OF_DRAW)
    return windows, random.random(len(target)) < np.tile(parts.ravel(), members)


def _make_known(devices: Devices, random: np.random.Generator, members: int) -> None:
    """As if drafts of each device had met the target before, the same for each of its windows."""
    shape = (members, KINDS_OF_DRAW, 1)
    first = devices.drawn.acceptance.reshape(members, KINDS_OF_DRAW, NUM_COLUMNS)[:, :, :1]
    seen = random.integers(*KNOWN_POSITIONS, size=shape, endpoint=True)
    right = random.binomial(seen, first)

    def of_all(values: IntArray) -> IntArray:
        return np.repeat(values, NUM_COLUMNS, axis=2).ravel()

    devices.observe(np.arange(len(devices.target)), of_all(right), of_all(seen - right))


def _examples(random: np.random.Generator, seen: FloatArray) -> FloatArray:
    """Single devices' inputs [num_kinds, num_examples, 8] of all columns' at the end."""
    members = len(seen)
    settled = random.integers(len(SWEPT_WINDOWS), size=(KINDS_OF_DRAW, SETTLED_EXAMPLES))
    settled[:, 0] = 0
    columns = np.pad(settled, ((0, 0), (0, WANDERING_EXAMPLES)), constant_values=len(SWEPT_WINDOWS))
    devices = random.integers(members, size=columns.shape)
    examples: FloatArray = seen[devices, np.arange(KINDS_OF_DRAW)[:, None], columns]
    return examples


def _setting(random: np.random.Generator, drafting: Drafting) -> ManySetting:
    ranges = RANGES[drafting]
    fixed_seconds = _between(random, *ranges.fixed_seconds)
    kinds: list[TargetKind] = []
    for _ in range(KINDS_OF_DRAW):
        own = fixed_seconds * random.uniform(0.7, 1.4)
        ratio = _between(random, *ranges.tokens_of_fixed)
        kinds += [TargetKind("drawn", own, own / ratio, 0.0)] * NUM_COLUMNS
    middle = random.uniform(*ranges.acceptance)
    speed = _between(random, *ranges.draft_tokens_per_second)
    seconds = NUM_ROUNDS * fixed_seconds
    return ManySetting(
        targets=tuple(kinds),
        num_devices=int(random.integers(1, MOST_DEVICES + 1)) * len(kinds),
        draft_tokens_per_second=(speed,),
        acceptance=(middle - 0.04, middle + 0.04),
        round_trip_seconds=_between(random, *ranges.round_trip_seconds),
        prompt_tokens=(1, 1),
        output_tokens=(1 << 20, 1 << 20),
        think_seconds=(0.0, 0.001),
        seconds=seconds,
        warm_up_seconds=0.25 * seconds,
        routing="pinned",
        max_batch=64,
    )


def _between(random: np.random.Generator, least: float, most: float) -> float:
    """Evenly in the logarithm."""
    return float(np.exp(random.uniform(np.log(least), np.log(most))))


def _paired(setting: ManySetting, seed: int, target: IntArray, members: int) -> DrawnDevices:
    """Devices of a kind are the same for each of its windows."""
    base = msgspec.structs.replace(setting, num_devices=members * KINDS_OF_DRAW)
    drawn = draw_devices(base, seed)
    kind = target // NUM_COLUMNS
    which = (np.arange(len(target)) // len(setting.targets)) * KINDS_OF_DRAW + kind
    return DrawnDevices(
        **{name: getattr(drawn, name)[which] for name in DrawnDevices.__struct_fields__}
    )


def _best_windows(speeds: FloatArray, fused_label: float) -> FloatArray:
    """Labels [num_kinds] from tokens/s [num_members, num_kinds, num_windows]."""
    slowest = np.quantile(1.0 / speeds, 0.95, axis=0)
    allowed = SLO_TIMES_FUSED * (1.0 / speeds[:, :, 0]).mean(axis=0)
    late = np.maximum(slowest / allowed[:, None] - 1.0, 0.0)
    scores = np.log(speeds).mean(axis=0) - SLO_WEIGHT * late
    best = SWEPT_WINDOWS[scores.argmax(axis=1)]
    return np.where(best == 0, fused_label, best.astype(np.float64))
