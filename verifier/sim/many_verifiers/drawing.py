"""Devices, their requests and their messages' times, drawn by a seed.

The same for every policy and routing, in whatever order they are asked for.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from shared.speculation.goodput import FloatArray, IntArray
from verifier.sim.many_verifiers.setting import ManySetting

RunArray = npt.NDArray[np.int16]
# Requests of a device, and positions of its texts; both come round again.
NUM_REQUESTS = 64
NUM_POSITIONS = 4096
# Longer runs of right tokens are no draft's; two bytes hold them.
MAX_RUN = (1 << 15) - 1
# Devices whose bits are drawn at once: 100,000 would take gigabytes.
DEVICES_AT_ONCE = 1024
NUM_MESSAGE_TIMES = 1 << 16
MessageKind = Literal["verdict", "draft", "request"]
_SPREAD = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFT, _LAST_SHIFT = np.uint64(31), np.uint64(48)  # 16 bits are left: a place of a time
_KINDS: tuple[MessageKind, ...] = get_args(MessageKind)


class DrawnDevices(msgspec.Struct, frozen=True):
    """Arrays [num_devices], and [num_devices, NUM_REQUESTS] of requests in their order."""

    acceptance: FloatArray
    draft_token_seconds: FloatArray
    runs: RunArray
    """Right draft tokens in a row from each position of a text on [num_devices, NUM_POSITIONS]."""
    first_asked_at: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    think_seconds: FloatArray
    first_positions: IntArray


def draw_devices(setting: ManySetting, seed: int, trace: IntArray | None = None) -> DrawnDevices:
    """All that is random about devices but for the times of messages.

    Args:
        setting: the world.
        seed: of everything.
        trace: recorded bits (1: the draft token was right) that all devices replay, each from
            places of its own; without one, bits are independent, with each device's rate.
    """
    random = np.random.default_rng([seed, 1])
    count, shape = setting.num_devices, (setting.num_devices, NUM_REQUESTS)
    acceptance = random.permutation(np.linspace(*setting.acceptance, count))
    speeds = np.resize(np.array(setting.draft_tokens_per_second), count)
    runs = np.empty((count, NUM_POSITIONS), dtype=np.int16)
    for first in range(0, count, DEVICES_AT_ONCE):
        rates = acceptance[first : first + DEVICES_AT_ONCE, None]
        if trace is None:
            bits = random.random((len(rates), NUM_POSITIONS)) < rates
        else:
            starts = random.integers(0, len(trace), size=len(rates))[:, None]
            bits = np.asarray(trace)[(starts + np.arange(NUM_POSITIONS)) % len(trace)] == 1
        runs[first : first + DEVICES_AT_ONCE] = run_lengths(bits)
    if trace is not None:
        acceptance = np.full(count, float(np.mean(trace)))
    longest_think = max(setting.think_seconds[1], 1e-3)
    return DrawnDevices(
        acceptance=acceptance,
        draft_token_seconds=1.0 / random.permutation(speeds),
        runs=runs,
        first_asked_at=random.uniform(0.0, longest_think, count),
        prompt_tokens=random.integers(*setting.prompt_tokens, size=shape, endpoint=True),
        output_tokens=random.integers(*setting.output_tokens, size=shape, endpoint=True),
        think_seconds=random.uniform(*setting.think_seconds, size=shape),
        first_positions=random.integers(0, NUM_POSITIONS, size=shape),
    )


class MessageTimes:
    """Of one direction: each message has its own time, whenever it is asked for."""

    def __init__(self, setting: ManySetting, seed: int) -> None:
        normal = np.random.default_rng([seed, 3]).standard_normal(NUM_MESSAGE_TIMES)
        self._seconds = 0.5 * setting.round_trip_seconds * np.exp(setting.jitter * normal)

    def seconds(
        self, kind: MessageKind, which: IntArray, requests: IntArray, rounds: IntArray
    ) -> FloatArray:
        """Of devices' messages in these rounds of these requests; all [num_messages]."""
        numbers = (requests * NUM_POSITIONS + rounds) * len(_KINDS) + _KINDS.index(kind)
        # Multipliers of splitmix64: neighbours get places that have nothing to do with each other.
        mixed = which.astype(np.uint64) * _SPREAD[0] + numbers.astype(np.uint64) * _SPREAD[1]
        mixed = (mixed ^ (mixed >> _SHIFT)) * _SPREAD[0]
        seconds: FloatArray = self._seconds[(mixed >> _LAST_SHIFT).astype(np.int64)]
        return seconds


def run_lengths(bits: np.typing.NDArray[np.bool_]) -> RunArray:
    """How many ones follow each other from every place on, going round [num_rows, num_places]."""
    num_places = bits.shape[1]
    places = np.arange(2 * num_places)
    twice = np.concatenate([bits, bits], axis=1)
    wrong_at = np.where(twice, 2 * num_places + MAX_RUN, places)
    next_wrong = np.minimum.accumulate(wrong_at[:, ::-1], axis=1)[:, ::-1]
    runs: RunArray = np.minimum(next_wrong - places, MAX_RUN)[:, :num_places].astype(np.int16)
    return runs
