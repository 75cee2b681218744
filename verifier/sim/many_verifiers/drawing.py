"""Devices and their requests, drawn by a seed.

The same for every policy and routing, in whatever order they are asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from shared.speculation.goodput import FloatArray, IntArray
from verifier.sim.many_verifiers.arrivals import Arrivals, dealt, poisson_arrivals
from verifier.sim.many_verifiers.setting import ManySetting

RunArray = npt.NDArray[np.int16]
# Requests of a device, and positions of its texts; both come round again.
NUM_REQUESTS = 64
NUM_POSITIONS = 4096
# Longer runs of right tokens are no draft's; two bytes hold them.
MAX_RUN = (1 << 15) - 1
# Devices whose bits are drawn at once: 100,000 would take gigabytes.
DEVICES_AT_ONCE = 1024


class Recorded(NamedTuple):
    """What devices replay in place of what is drawn."""

    tokens: IntArray | None = None  # 1: the draft token was right
    arrivals: Arrivals | None = None


DRAWN = Recorded()


class DrawnDevices(msgspec.Struct, frozen=True):
    """Arrays [num_devices], and [num_devices, num_requests] of requests in their order."""

    acceptance: FloatArray
    draft_token_seconds: FloatArray
    runs: RunArray
    """Right draft tokens in a row from each position of a text on [num_devices, NUM_POSITIONS]."""
    first_asked_at: FloatArray
    asked_at: FloatArray
    """[num_devices, num_requests]; NEVER: there is none; without columns each asks again when it
    has thought, and its requests come round."""
    prompt_tokens: IntArray
    output_tokens: IntArray
    think_seconds: FloatArray
    first_positions: IntArray


def draw_devices(setting: ManySetting, seed: int, recorded: Recorded = DRAWN) -> DrawnDevices:
    """All that is random about devices but for the times of messages.

    Args:
        setting: the world.
        seed: of everything.
        recorded: tokens that all devices replay, each from places of its own (without them bits are
            independent, with each device's rate), and arrivals, each at any device.
    """
    trace = recorded.tokens
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
    drawn = DrawnDevices(
        acceptance=acceptance,
        draft_token_seconds=1.0 / random.permutation(speeds),
        runs=runs,
        first_asked_at=random.uniform(0.0, longest_think, count),
        asked_at=np.empty((count, 0)),
        prompt_tokens=random.integers(*setting.prompt_tokens, size=shape, endpoint=True),
        output_tokens=random.integers(*setting.output_tokens, size=shape, endpoint=True),
        think_seconds=random.uniform(*setting.think_seconds, size=shape),
        first_positions=random.integers(0, NUM_POSITIONS, size=shape),
    )
    return _arriving(drawn, setting, np.random.default_rng([seed, 4]), recorded.arrivals)


def _arriving(
    drawn: DrawnDevices,
    setting: ManySetting,
    random: np.random.Generator,
    arrivals: Arrivals | None,
) -> DrawnDevices:
    """The same devices with requests that arrive by themselves, if any do."""
    if arrivals is None and setting.requests_per_second:
        arrivals = poisson_arrivals(setting, setting.requests_per_second, random)
    if arrivals is None:
        return drawn
    asked_at, prompt_tokens, output_tokens = dealt(arrivals, setting.num_devices, random)
    return msgspec.structs.replace(
        drawn,
        first_asked_at=asked_at[:, 0],
        asked_at=asked_at,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        first_positions=random.integers(0, NUM_POSITIONS, size=asked_at.shape),
    )


def run_lengths(bits: np.typing.NDArray[np.bool_]) -> RunArray:
    """How many ones follow each other from every place on, going round [num_rows, num_places]."""
    num_places = bits.shape[1]
    places = np.arange(2 * num_places)
    twice = np.concatenate([bits, bits], axis=1)
    wrong_at = np.where(twice, 2 * num_places + MAX_RUN, places)
    next_wrong = np.minimum.accumulate(wrong_at[:, ::-1], axis=1)[:, ::-1]
    runs: RunArray = np.minimum(next_wrong - places, MAX_RUN)[:, :num_places].astype(np.int16)
    return runs
