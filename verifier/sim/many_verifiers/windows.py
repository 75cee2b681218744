"""Rules for the window of a stream: DSD's, and one that knows all.

A window of 0 is fused mode: the target alone, no draft, no waiting. The one that knows all is meant
for streams that wait for their own draft.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.policies.awc import AwcInputs, AwcMemory, AwcWeights, next_memory
from verifier.policies.threshold import threshold_windows

PERFECT_WINDOWS = np.arange(13)


class WindowInputs(NamedTuple):
    """What a rule may know of the devices that just got a verdict; all [num_verdicts]."""

    which: IntArray  # devices
    awc: AwcInputs
    true_acceptance: FloatArray  # for the oracle alone
    bare_seconds: FloatArray  # of its verifier's round, were nothing drafted
    added_seconds: FloatArray  # that one more token adds


class WindowRule(Protocol):
    """Says how long the next draft is."""

    def windows(self, inputs: WindowInputs) -> IntArray:
        """One for each verdict, from 0."""
        ...


class StaticWindows:
    """Always the same."""

    def __init__(self, window: int) -> None:
        self._window = window

    def windows(self, inputs: WindowInputs) -> IntArray:
        """See `WindowRule`."""
        return np.full(len(inputs.which), self._window)


class ThresholdWindows:
    """By the last acceptance: 2, 4 or 8."""

    def windows(self, inputs: WindowInputs) -> IntArray:
        """See `WindowRule`."""
        return threshold_windows(inputs.awc.acceptance_rates)


class AwcWindows:
    """The learned rule.

    A device's next request goes on where its last one ended: its board and its link are the same.
    """

    def __init__(self, weights: AwcWeights, num_devices: int) -> None:
        self._weights = weights
        self._memory = AwcMemory.of_new(num_devices)

    def windows(self, inputs: WindowInputs) -> IntArray:
        """See `WindowRule`."""
        after = next_memory(self._weights, self._memory.of(inputs.which), inputs.awc)
        self._memory.put(inputs.which, after)
        return after.windows()


class PerfectWindows:
    """The window with the most tokens a second for each stream by itself, everything known."""

    def windows(self, inputs: WindowInputs) -> IntArray:
        """See `WindowRule`."""
        rates = inputs.true_acceptance[:, None]
        tokens = (1.0 - rates ** (PERFECT_WINDOWS + 1)) / (1.0 - rates)
        seconds = inputs.bare_seconds[:, None] + inputs.added_seconds[:, None] * PERFECT_WINDOWS
        drafting = inputs.awc.draft_token_seconds[:, None] * PERFECT_WINDOWS
        waiting = inputs.awc.round_trip_seconds[:, None] + drafting
        # Half of the round that runs when the draft comes goes by as well.
        waiting = np.where(PERFECT_WINDOWS > 0, waiting + 0.5 * inputs.bare_seconds[:, None], 0.0)
        best: IntArray = (tokens / (seconds + waiting)).argmax(axis=1)
        return best
