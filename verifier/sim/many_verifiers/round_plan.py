"""Which streams are in the next round of each verifier, and what it reads of new prompts.

All verifiers whose time has come are planned at once; arrays are [num_devices] or [num_targets].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.sim.many_verifiers.arrivals import NEVER
from verifier.sim.many_verifiers.setting import ManySetting
from verifier.sim.many_verifiers.state import Devices, Targets

BoolArray = np.typing.NDArray[np.bool_]
# Length-aware batching takes no stream whose window differs by more from that of the oldest one.
SIMILAR_WINDOWS = 2


class RoundPlan(NamedTuple):
    """One round of each verifier that runs one."""

    decoding: IntArray  # devices that get tokens
    reading: IntArray  # devices whose prompts are read
    prompt_tokens: IntArray  # of each of these
    num_waiting: FloatArray  # streams that are ready, in the round or not [num_targets]


def plan_rounds(
    setting: ManySetting, devices: Devices, targets: Targets, active: BoolArray
) -> RoundPlan:
    """Of the verifiers that are `active`; none of its streams may be ready."""
    now = targets.now[devices.target]
    ready = np.flatnonzero(devices.is_open & active[devices.target] & (devices.ready_at <= now))
    num_waiting = np.bincount(devices.target[ready], minlength=len(targets)).astype(np.float64)
    ready = _batch(setting, devices, ready)
    is_reading = devices.prompt_left[ready] > 0
    reading, prompt_tokens = _prompts(setting, devices, ready[is_reading])
    return RoundPlan(ready[~is_reading], reading, prompt_tokens, num_waiting)


def _batch(setting: ManySetting, devices: Devices, ready: IntArray) -> IntArray:
    """At most `max_batch` of each verifier, the longest ready first; similar ones if asked for."""
    order = np.lexsort((devices.ready_at[ready], devices.target[ready]))
    ready = ready[order]
    ranks = _ranks(devices.target[ready])
    if setting.batching == "length-aware":
        oldest = np.maximum.accumulate(np.where(ranks == 0, np.arange(len(ready)), 0))
        windows = devices.window[ready]
        differs = np.abs(windows - windows[oldest]) > SIMILAR_WINDOWS
        differs &= devices.prompt_left[ready] == 0
        ready = ready[~differs]
        ranks = _ranks(devices.target[ready])
    return ready[ranks < setting.max_batch]


def _prompts(
    setting: ManySetting, devices: Devices, reading: IntArray
) -> tuple[IntArray, IntArray]:
    """The oldest requests' prompts, as far as a round reads."""
    reading = reading[np.lexsort((devices.arrives_at[reading], devices.target[reading]))]
    left = devices.prompt_left[reading]
    sums = np.cumsum(left)
    ranks = _ranks(devices.target[reading])
    starts = np.maximum.accumulate(np.where(ranks == 0, sums - left, 0))
    before = sums - left - starts
    tokens = np.clip(setting.prompt_tokens_of_round - before, 0, left)
    return reading[tokens > 0], tokens[tokens > 0]


def _ranks(groups: IntArray) -> IntArray:
    """Each entry's place in its group; groups lie together."""
    places = np.arange(len(groups))
    begins = np.where(np.diff(groups, prepend=-1) != 0, places, 0)
    ranks: IntArray = places - np.maximum.accumulate(begins)
    return ranks


def next_event(devices: Devices, num_targets: int) -> FloatArray:
    """When each verifier's next stream is ready [num_targets]."""
    events = np.full(num_targets, NEVER)
    is_open = devices.is_open
    np.minimum.at(events, devices.target[is_open], devices.ready_at[is_open])
    return events
