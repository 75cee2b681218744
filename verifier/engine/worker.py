"""One worker as the verifier's event loop has it: its planner, its engine, its target, its state.

This module must never decide where a stream goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from shared.errors import LinkLost
from verifier.engine.engine import Engine
from verifier.rounds.planner import RoundPlanner
from verifier.streams.stream import Stream
from verifier.workers.remote_target import RemoteTarget


class WorkerState(StrEnum):
    """What a worker does now."""

    SERVING = "serving"
    DRAINING = "draining"  # its round ends; then its streams go on elsewhere
    DRAINED = "drained"  # it waits, without a stream, until it is started anew
    LOST = "lost"  # it is being brought back, or waited for


class WorkerSource(Protocol):
    """Where a worker's target comes from: a process of this verifier, or an address."""

    @property
    def name(self) -> str: ...

    def reach(self, lost: RemoteTarget | None) -> RemoteTarget:
        """Connect, however long that takes; in a thread.

        Raises:
            GoodspeedError: it cannot be reached now; the sentence says why.
        """
        ...

    def close(self) -> None:
        """The verifier ends; a process that it started ends with it."""
        ...


@dataclass(eq=False)
class Worker:
    """Owned by `ManyWorkers`."""

    number: int
    source: WorkerSource
    planner: RoundPlanner
    target: RemoteTarget
    engine: Engine = field(init=False)
    state: WorkerState = WorkerState.SERVING
    is_lost_by_intent: bool = False  # its process is ended on purpose
    gives_away: Sequence[Stream] = ()  # to a worker that has joined, as soon as no round runs
    gives_to: Worker | None = None
    change: asyncio.Event = field(default_factory=asyncio.Event)  # of the state, for its watch
    because: str = ""  # why it is lost
    num_rounds: int = 0
    round_seconds: float = 0.0  # of all of them
    num_lost: int = 0  # times
    num_moved_in: int = 0  # streams that came from another worker
    num_moved_out: int = 0

    @property
    def is_serving(self) -> bool:
        """Whether streams may be placed here."""
        return self.state is WorkerState.SERVING

    @property
    def num_streams(self) -> int:
        """Open ones, those that wait for room included."""
        return len(self.planner.streams) + len(self.planner.queue)

    def lose(self) -> None:
        """Its target is gone."""
        self.state = WorkerState.LOST
        self.because = self.target.lost_because or "it has ended"
        self.num_lost += 1

    async def reach(self) -> RemoteTarget:
        """Its target anew. A thread cannot be cancelled: what it reaches after all is closed.

        Raises:
            GoodspeedError: it cannot be reached now; the sentence says why.
        """
        reaching = asyncio.ensure_future(asyncio.to_thread(self.source.reach, self.target))
        try:
            target = await asyncio.shield(reaching)
        except asyncio.CancelledError:
            reaching.add_done_callback(_close_reached)
            raise
        self.target.close("another connection was made")  # where it was lost between two rounds
        return target

    def end_process(self) -> None:
        """Let the process end, as was asked for; in a thread, while no round runs."""
        self.is_lost_by_intent = False
        try:
            self.target.end_worker("it is started anew")
        except LinkLost as error:
            self.target.close(str(error))

    def fits(self, stream: Stream) -> bool:
        """Whether the stream can ever have a place here."""
        blocks = self.planner.blocks
        return stream.most_tokens <= blocks.num_blocks * blocks.block_tokens

    def movable_to(self, other: Worker) -> list[Stream]:
        """Its streams that the other could serve."""
        streams = (*self.planner.streams.values(), *self.planner.queue.values())
        return [stream for stream in streams if other.fits(stream)]


def _close_reached(reaching: asyncio.Future[RemoteTarget]) -> None:
    if not reaching.cancelled() and reaching.exception() is None:
        reaching.result().close("the verifier has ended")
