"""Streams whose rounds lost their worker: with whom they may share a round, and when one must end.

A worker dies by itself now and then, and a round may kill every worker that it is given. After a
second loss in a row the streams of the round are run in halves, then in quarters, until the one
that kills stands alone; who comes through a round is innocent. One object for all workers of a
verifier, because streams go on at another one. Pure; this module must never move a stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from verifier.streams.stream import Stream

# Losses in a row, before which nothing is held against a stream.
MOST_CHANCE_LOSSES = 1
# And those after which one that was alone in its round ends.
MOST_LOSSES_ALONE = 3


class _Suspect(msgspec.Struct):
    num_losses: int = 0  # in a row
    most_together: int | None = None  # suspects in one round; None: nothing is held against it


class Quarantine:
    """What is known of streams that were in lost rounds since their last whole one."""

    def __init__(self) -> None:
        self._suspects: dict[int, _Suspect] = {}
        self._was_quarantine = False  # the latest round

    def together(self, candidates: Sequence[Stream]) -> Sequence[Stream]:
        """Those that may be in the next round; suspects and others take turns."""
        if not self._suspects:
            return candidates
        limits = {s.number: self._limit(s) for s in candidates}
        held = [stream for stream in candidates if limits[stream.number] is not None]
        free = [stream for stream in candidates if limits[stream.number] is None]
        if not held or (free and self._was_quarantine):
            self._was_quarantine = False
            return free
        self._was_quarantine = True
        return held[: min(limits[stream.number] or 1 for stream in held)]

    def acquit(self, streams: Sequence[Stream]) -> None:
        """These came through a round, or ended."""
        if self._suspects:
            for stream in streams:
                self._suspects.pop(stream.number, None)

    def lost(self, streams: Sequence[Stream]) -> list[Stream]:
        """A round of these lost its worker; those that must end."""
        again = [s for s in streams if self._num_losses(s) >= MOST_CHANCE_LOSSES]
        for stream in streams:
            suspect = self._suspects.setdefault(stream.number, _Suspect())
            suspect.num_losses += 1
            if stream in again:
                suspect.most_together = -(-len(again) // 2)
        is_alone = len(streams) == 1
        return [s for s in streams if is_alone and self._num_losses(s) >= MOST_LOSSES_ALONE]

    def _num_losses(self, stream: Stream) -> int:
        suspect = self._suspects.get(stream.number)
        return 0 if suspect is None else suspect.num_losses

    def _limit(self, stream: Stream) -> int | None:
        suspect = self._suspects.get(stream.number)
        return None if suspect is None else suspect.most_together
