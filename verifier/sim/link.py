"""One direction of a link: when a message arrives that is sent now, in order as TCP keeps it."""

from __future__ import annotations

import math
from random import Random

import msgspec

# A message is never there in no time, and no two arrive at once.
MIN_STEP_SECONDS = 1e-6


class LinkSpec(msgspec.Struct, frozen=True):
    """What a link is like."""

    one_way_seconds: float
    jitter: float  # deviation of the logarithm
    loss: float
    resend_seconds: float
    bytes_per_second: float  # 0: no limit


class Lane:
    """Messages of one direction."""

    __slots__ = ("_arrives_at", "_free_at", "_random", "_spec")

    def __init__(self, spec: LinkSpec, random: Random) -> None:
        self._spec = spec
        self._random = random
        self._free_at = 0.0  # when the latest message had left
        self._arrives_at = 0.0

    def arrival(self, now: float, num_bytes: int) -> float:
        """When a message of so many bytes arrives."""
        spec = self._spec
        left_at = max(now, self._free_at)
        if spec.bytes_per_second:
            left_at += num_bytes / spec.bytes_per_second
            self._free_at = left_at
        seconds = spec.one_way_seconds
        if seconds and spec.jitter:
            seconds *= math.exp(spec.jitter * self._random.gauss(0.0, 1.0))
        while spec.loss and self._random.random() < spec.loss:
            seconds += spec.resend_seconds
        self._arrives_at = max(self._arrives_at + MIN_STEP_SECONDS, left_at + seconds)
        return self._arrives_at
