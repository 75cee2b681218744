"""How much of the event loop the messages of all devices may take together, and who waits then.

Limits for each device do not add up to one for all: a few devices, each within its own, could take
the whole loop. Pure: `now` is an argument. This module must never drop a message: what has to wait
stays in the socket, so that a device that says too much slows itself down.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

# The rest is for rounds, verdicts and everything else: one flood in a third of the loop made an
# honest board's slowest rounds 1.6 times as long. A board of eight streams at 50 rounds a second
# takes 3 %.
PART_OF_LOOP = 0.15
# Many devices alike may take half of the loop together: a thousand boards of 20 messages a second,
# 20 us each, come to 40 %, and none of them is to blame. Only who says more than others waits.
PART_OF_MANY = 0.5
# Who is nearly alone shares with those who are silent now.
LEAST_SHARES = 4
# A link that stood still delivers at once what was said meanwhile.
BURST_SECONDS = 0.05
DEVICE_BURST_SECONDS = 0.01
# A device that was silent for so long needs no share.
ACTIVE_SECONDS = 1.0
# So that a wait is never too short for a clock to see.
SHORTEST_WAIT_SECONDS = 1e-3


class _Level(msgspec.Struct):
    """Seconds that flow out evenly."""

    seconds: float = 0.0
    since: float = 0.0

    def leak(self, per_second: float, now: float) -> float:
        if now > self.since:
            left = self.seconds - (now - self.since) * per_second
            self.seconds = left if left > 0.0 else 0.0
        self.since = now
        return self.seconds


class LoopShares:
    """The time that each device's messages took lately."""

    def __init__(self, part_of_loop: float = PART_OF_LOOP) -> None:
        self.spent_seconds: dict[str, float] = {}  # by device, since the start
        self._part_of_loop = part_of_loop
        self._part_of_many = part_of_loop * (PART_OF_MANY / PART_OF_LOOP)
        self._all = _Level()
        self._active: OrderedDict[str, _Level] = OrderedDict()  # the longest silent first

    def spend(self, device: str, seconds: float, now: float) -> None:
        """A message of the device took so long, with all that its frame costs."""
        self.spent_seconds[device] = self.spent_seconds.get(device, 0.0) + seconds
        level = self._active.get(device)
        if level is None:
            level = self._active[device] = _Level(since=now)
        level.leak(self._share, now)
        level.seconds += seconds
        self._active.move_to_end(device)
        self._all.leak(self._part_of_loop, now)
        self._all.seconds += seconds
        self._forget_silent(now)

    def seconds_to_wait(self, device: str, now: float) -> float:
        """How long the device's next message has to wait at least; 0: it may be read."""
        level = self._active.get(device)
        if level is None:
            return 0.0
        share = self._share
        too_much = self._all.leak(self._part_of_loop, now) - BURST_SECONDS
        beyond_share = level.leak(share, now) - DEVICE_BURST_SECONDS
        if too_much <= 0.0 or beyond_share <= 0.0:
            return 0.0
        seconds = min(too_much / self._part_of_loop, beyond_share / share)
        return max(seconds, SHORTEST_WAIT_SECONDS)

    @property
    def _share(self) -> float:
        return self._part_of_many / max(len(self._active), LEAST_SHARES)

    def _forget_silent(self, now: float) -> None:
        while self._active:
            if now - next(iter(self._active.values())).since < ACTIVE_SECONDS:
                return
            self._active.popitem(last=False)
