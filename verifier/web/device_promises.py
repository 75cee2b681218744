"""What devices' streams are promised, and how that is kept, for the dashboard.

Pure reading. This module must never change what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from verifier.promises.promises import Promises, SloCounts, summed_counts


class DevicePromise(msgspec.Struct, frozen=True, gc=False):
    """Of one device."""

    token_seconds: float  # of new streams; 0: nothing is promised to them
    in_time: float | None  # part of their tokens within that, since the start
    sentence: str | None  # why a stream waits for its promise, or has none


class DevicePromises:
    """Of all devices, over the planners of all workers, at one moment."""

    def __init__(self, all_promises: Sequence[Promises]) -> None:
        self._settings = all_promises[0].settings
        self._counts = summed_counts([promises.counts for promises in all_promises])
        self._reasons: dict[str, str] = {}
        for promises in all_promises:
            self._reasons |= promises.reasons()

    def of(self, device: str) -> DevicePromise | None:
        """Of the device with this name; None: nothing is promised to it, and none waits for it."""
        in_time = self._counts.get(device, SloCounts()).in_time
        seconds = self._settings.seconds_of(device)
        sentence = self._reasons.get(device)
        return DevicePromise(seconds, in_time, sentence) if seconds or sentence else None
