"""Requests that come whether or not earlier ones are answered: recorded ones, or a Poisson process.

Each goes to any device, and waits there while that device has another one open. This module must
never read a file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.sim.many_verifiers.setting import ManySetting

NEVER = np.inf


class Arrivals(NamedTuple):
    """In the order of time; all [num_requests]."""

    asked_at: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray


class DealtArrivals(NamedTuple):
    """The requests of each device in their order; all [num_devices, most of one, and one more]."""

    asked_at: FloatArray  # NEVER: there is none
    prompt_tokens: IntArray
    output_tokens: IntArray


def poisson_arrivals(
    setting: ManySetting, per_second: float, random: np.random.Generator
) -> Arrivals:
    """Of all devices together."""
    count = int(random.poisson(per_second * setting.seconds))
    return Arrivals(
        np.sort(random.uniform(0.0, setting.seconds, count)),
        random.integers(*setting.prompt_tokens, size=count, endpoint=True),
        random.integers(*setting.output_tokens, size=count, endpoint=True),
    )


def dealt(arrivals: Arrivals, num_devices: int, random: np.random.Generator) -> DealtArrivals:
    """To any device each."""
    devices = random.integers(num_devices, size=len(arrivals.asked_at))
    counts = np.bincount(devices, minlength=num_devices)
    order = np.argsort(devices, kind="stable")
    rows = devices[order]
    places = np.arange(len(order)) - (np.cumsum(counts) - counts)[rows]
    shape = (num_devices, int(counts.max()) + 1)
    made = DealtArrivals(np.full(shape, NEVER), np.ones(shape, np.int64), np.ones(shape, np.int64))
    for table, values in zip(made, arrivals, strict=True):
        table[rows, places] = values[order]
    return made
