"""Each device's part of the cache: what it holds, what is fair, and who gives way.

Where no device waits, a device may hold all. This module must never take a place away itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from verifier.rounds.blocks import BlockPool
from verifier.streams.stream import Stream


class CacheShares:
    """What the devices hold of the cache now, and what each of them may while others wait."""

    def __init__(
        self, blocks: BlockPool, admitted: Iterable[Stream], waiting: Iterable[Stream]
    ) -> None:
        self.num_held_blocks: dict[str, int] = {}
        self._num_admitted: dict[str, int] = {}
        devices = {stream.device for stream in waiting}
        for stream in admitted:
            self.take(stream, blocks.num_held_blocks(stream.number))
        self.share_blocks = blocks.num_blocks // max(len(devices | self.num_held_blocks.keys()), 1)

    def take(self, stream: Stream, num_blocks: int) -> None:
        """The stream has got a place with so many blocks."""
        device = stream.device
        self.num_held_blocks[device] = self.num_held_blocks.get(device, 0) + num_blocks
        self._num_admitted[device] = self._num_admitted.get(device, 0) + 1

    def grow(self, stream: Stream, num_more_blocks: int) -> None:
        """An admitted stream needs so many blocks more."""
        self.num_held_blocks[stream.device] += num_more_blocks

    def give(self, stream: Stream, num_blocks: int) -> None:
        """The stream has lost its place."""
        self.num_held_blocks[stream.device] -= num_blocks
        self._num_admitted[stream.device] -= 1

    def is_entitled(self, device: str, num_blocks: int) -> bool:
        """Whether others must make room for so many blocks more of a device.

        One stream of each is within its share, however long it is.
        """
        if not self._num_admitted.get(device, 0):
            return True
        return self.num_held_blocks[device] + num_blocks <= self.share_blocks

    def who_gives_way(
        self, asking: str, admitted: Sequence[Stream], is_idle: Callable[[Stream], bool]
    ) -> Stream | None:
        """The stream to lose its place to one of the device `asking`, or None if none must.

        Of the device that is furthest beyond its share the one that has waited longest for its
        board, else the one that was admitted last. Where no device is beyond, a stream of another
        device that waits. A device keeps its only stream, unless that waits.
        """
        greedy = [
            device
            for device, num_held in self.num_held_blocks.items()
            if num_held > self.share_blocks and self._num_admitted[device] > 1
        ]
        device = max(greedy, key=self.num_held_blocks.__getitem__, default=None)
        if device is None:
            pool = [stream for stream in admitted if stream.device != asking]
        else:
            pool = [stream for stream in admitted if stream.device == device]
        idle = [stream for stream in pool if is_idle(stream)]
        if idle:
            return min(idle, key=lambda stream: stream.waiting_since)
        return None if device is None else pool[-1]
