"""Where a stream stands between its opening and its end, and what may move it: a literal table.

A stream is moved by the planner and by admission alone. A move that the table does not hold for
the present place is our bug. This module must never act: collections, blocks and results follow
the place, not the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Place(Enum):
    """Where a stream is."""

    NEW = "new"  # made, not added yet
    QUEUED = "queued"  # waits for a place in the cache, as those do that have never had one
    PREEMPTED = "preempted"  # lost its place in the cache and waits before all that are queued
    ADMITTED = "admitted"  # has a place in the cache
    RUNNING = "running"  # admitted, and part of the running round
    PARKING = "parking"  # running, and to be parked when the round is over
    DISCARDING = "discarding"  # running, and to be gone without a result when it is
    PARKED = "parked"  # its board is gone for a while
    GONE = "gone"  # ended or discarded: nothing is held for it

    __hash__ = object.__hash__  # of a member there is one; Enum's own hashes its name in Python


class Move(Enum):
    """What happens to a stream."""

    ADD = "add"
    ADMIT = "admit"  # it got a place in the cache
    PREEMPT = "preempt"  # it lost that to another
    START_ROUND = "start round"  # with a part for it
    FINISH_ROUND = "finish round"
    PARK = "park"
    UNPARK = "unpark"  # its place in the cache is still its own
    REQUEUE = "requeue"  # unparked, but its place was taken meanwhile
    END = "end"  # with a result
    DISCARD = "discard"  # without one

    __hash__ = object.__hash__


_P, _M = Place, Move

TRANSITIONS: Mapping[tuple[Place, Move], Place] = {
    (_P.NEW, _M.ADD): _P.QUEUED,
    (_P.QUEUED, _M.ADMIT): _P.ADMITTED,
    (_P.QUEUED, _M.PARK): _P.PARKED,
    (_P.QUEUED, _M.END): _P.GONE,
    (_P.QUEUED, _M.DISCARD): _P.GONE,
    (_P.PREEMPTED, _M.ADMIT): _P.ADMITTED,
    (_P.PREEMPTED, _M.PARK): _P.PARKED,
    (_P.PREEMPTED, _M.END): _P.GONE,
    (_P.PREEMPTED, _M.DISCARD): _P.GONE,
    (_P.ADMITTED, _M.PREEMPT): _P.PREEMPTED,
    (_P.ADMITTED, _M.START_ROUND): _P.RUNNING,
    (_P.ADMITTED, _M.PARK): _P.PARKED,
    (_P.ADMITTED, _M.END): _P.GONE,
    (_P.ADMITTED, _M.DISCARD): _P.GONE,
    (_P.RUNNING, _M.FINISH_ROUND): _P.ADMITTED,
    (_P.RUNNING, _M.PARK): _P.PARKING,
    (_P.RUNNING, _M.END): _P.GONE,  # the target failed
    (_P.RUNNING, _M.DISCARD): _P.DISCARDING,
    (_P.PARKING, _M.FINISH_ROUND): _P.PARKED,
    (_P.PARKING, _M.UNPARK): _P.RUNNING,  # it was never away
    (_P.PARKING, _M.END): _P.GONE,
    (_P.PARKING, _M.DISCARD): _P.DISCARDING,
    (_P.DISCARDING, _M.FINISH_ROUND): _P.GONE,
    (_P.DISCARDING, _M.END): _P.GONE,
    (_P.DISCARDING, _M.DISCARD): _P.DISCARDING,
    (_P.PARKED, _M.UNPARK): _P.ADMITTED,
    (_P.PARKED, _M.REQUEUE): _P.QUEUED,
    (_P.PARKED, _M.END): _P.GONE,
    (_P.PARKED, _M.DISCARD): _P.GONE,
    (_P.GONE, _M.DISCARD): _P.GONE,  # it ended while it was kept for its board
}

# Whose next token waits for the end of the running round.
IN_ROUND = frozenset({_P.RUNNING, _P.PARKING, _P.DISCARDING})


def next_place(place: Place, move: Move) -> Place:
    """The place after `move`; one that cannot happen there fails an assertion."""
    following = TRANSITIONS.get((place, move))
    assert following is not None, f"{move.value} cannot happen to a stream that is {place.value}"
    return following
