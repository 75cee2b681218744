"""Streams that lose their worker or leave it: they go on elsewhere as they are, only unread.

To lose a worker is to be preempted: path, window, seed and position stay, the tokens are read anew
wherever there is room. Pure; this module must never choose a worker.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifier.rounds.blocks import BlockPool
from verifier.rounds.moves import move_all
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.streams.place import Move, Place
from verifier.streams.stream import Stream
from verifier.target.round import ItemFailure


def take_back_round(planner: RoundPlanner) -> list[StreamResult]:
    """The worker was lost in the running round: its streams stand where they stood before it.

    Returns those that end: cancelled meanwhile, or in too many lost rounds.
    """
    streams = planner.give_up_round()
    guilty = planner.quarantine.lost(streams)
    parked = [stream for stream in streams if stream.place is Place.PARKING]
    move_all(parked, Move.UNPARK)
    move_all(streams, Move.FINISH_ROUND)
    results = []
    for stream in streams:
        if stream.place is Place.GONE:
            planner.discard(stream)
        elif stream in guilty:
            stream.end("cancelled")
            stream.move(Move.END)
            planner.discard(stream)
            results.append(StreamResult.ended(stream, ItemFailure.WORKER_LOST))
        elif stream.is_cancelled and (result := planner.cancel(stream)) is not None:
            results.append(result)
        elif stream in parked:
            planner.park(stream)
    return results


def lose_cache(planner: RoundPlanner, blocks: BlockPool, now: float) -> None:
    """No stream has a place any more; `blocks` are those of the next cache, which is empty.

    No round may run.
    """
    planner.admission.lose_cache(blocks, now)
    planner.blocks = blocks


def all_streams(planner: RoundPlanner) -> list[Stream]:
    """All that are open: with a place, waiting, parked, in the order in which they go on."""
    admission = planner.admission
    held = admission.streams, admission.queue, admission.parked
    return [stream for streams in held for stream in streams.values()]


def in_moving_order(streams: Sequence[Stream]) -> list[Stream]:
    """The order in which to move streams, so that they keep theirs.

    Each that had begun goes before all that wait: the last of them first.
    """
    begun = [s for s in streams if s.place in (Place.ADMITTED, Place.PREEMPTED)]
    return [*reversed(begun), *[stream for stream in streams if stream not in begun]]


def move_stream(stream: Stream, source: RoundPlanner, target: RoundPlanner, now: float) -> None:
    """Let a stream go on at another worker, into whose cache it fits; it is in no round."""
    source.admission.give_away(stream, now)
    target.admission.take_over(stream)
