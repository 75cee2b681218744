"""What devices' streams are promised, and how that is kept, for the dashboard.

Pure reading. This module must never change what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from verifier.promises.promises import Promises, SloCounts


class DevicePromise(NamedTuple):
    """Of one device."""

    slo_token_seconds: float = 0.0  # that new streams are promised; 0: nothing
    in_time: float | None = None  # part of the tokens within that, since the start
    sentence: str | None = None  # why a stream waits for its promise, or has none


NO_PROMISE = DevicePromise()


class DevicePromises:
    """Of all devices, over the planners of all workers, at one moment."""

    def __init__(self, all_promises: Sequence[Promises]) -> None:
        self._settings = all_promises[0].settings
        self._counts: dict[str, SloCounts] = {}
        self._reasons: dict[str, str] = {}
        for promises in all_promises:
            self._reasons |= promises.reasons()
            for device, counts in tuple(promises.counts.items()):
                summed = self._counts.setdefault(device, SloCounts())
                summed.num_in_time += counts.num_in_time
                summed.num_late += counts.num_late

    def of(self, device: str) -> DevicePromise:
        """Of the device with this name."""
        in_time = self._counts.get(device, SloCounts()).in_time
        seconds = self._settings.seconds_of(device)
        return DevicePromise(seconds, in_time, self._reasons.get(device))
