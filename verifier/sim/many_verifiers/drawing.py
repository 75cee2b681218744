"""Devices and their requests, drawn by a seed: the same texts for every policy and routing."""

from __future__ import annotations

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.sim.many_verifiers.setting import ManySetting

# Requests of a device, and positions of its texts; both come round again.
NUM_REQUESTS = 64
NUM_POSITIONS = 4096
# Longer runs of right tokens are no draft's.
MAX_RUN = 1 << 15


class DrawnDevices(msgspec.Struct, frozen=True):
    """Arrays [num_devices], and [num_devices, NUM_REQUESTS] of requests in their order."""

    acceptance: FloatArray
    draft_token_seconds: FloatArray
    runs: IntArray
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
    bits = random.random((count, NUM_POSITIONS)) < acceptance[:, None]
    if trace is not None:
        places = random.integers(0, len(trace), size=count)[:, None] + np.arange(NUM_POSITIONS)
        bits = np.asarray(trace)[places % len(trace)] == 1
        acceptance = np.full(count, float(np.mean(trace)))
    longest_think = max(setting.think_seconds[1], 1e-3)
    return DrawnDevices(
        acceptance=acceptance,
        draft_token_seconds=1.0 / random.permutation(speeds),
        runs=run_lengths(bits),
        first_asked_at=random.uniform(0.0, longest_think, count),
        prompt_tokens=random.integers(*setting.prompt_tokens, size=shape, endpoint=True),
        output_tokens=random.integers(*setting.output_tokens, size=shape, endpoint=True),
        think_seconds=random.uniform(*setting.think_seconds, size=shape),
        first_positions=random.integers(0, NUM_POSITIONS, size=shape),
    )


def run_lengths(bits: np.typing.NDArray[np.bool_]) -> IntArray:
    """How many ones follow each other from every place on, going round [num_rows, num_places]."""
    num_places = bits.shape[1]
    places = np.arange(2 * num_places)
    twice = np.concatenate([bits, bits], axis=1)
    wrong_at = np.where(twice, 2 * num_places + MAX_RUN, places)
    next_wrong = np.minimum.accumulate(wrong_at[:, ::-1], axis=1)[:, ::-1]
    runs: IntArray = np.minimum(next_wrong - places, MAX_RUN)[:, :num_places]
    return runs.astype(np.int64)
