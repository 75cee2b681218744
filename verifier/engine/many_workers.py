"""Several workers behind what a service knows as one planner and one engine.

Every worker has a planner and an engine of its own and runs rounds on its own clock; estimates of
devices are shared. A stream goes to the worker with the least price and stays there, until that is
lost or drained, or another one joins where it is served better. It goes on as it is: nothing of its
text hangs on where it is. This module must never look into a frame or a file.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from shared.daemon.lifecycle import rare_collections
from shared.errors import GoodspeedError
from verifier.engine.engine import Engine, RoundReport
from verifier.engine.round_precedence import RoundPrecedence
from verifier.engine.worker import Worker, WorkerState
from verifier.engine.worker_watch import keep_reached
from verifier.placement.offers import offer_of, offers_to
from verifier.placement.price import cheapest, moves_to, spread
from verifier.placement.relocation import (
    all_streams,
    in_moving_order,
    lose_cache,
    move_stream,
)
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.rounds.quarantine import Quarantine
from verifier.streams.goodput_of_workers import GoodputAtWorker, GoodputOfWorkers
from verifier.streams.place import Place
from verifier.streams.stream import Stream
from verifier.workers.remote_target import RemoteTarget
from verifier.workers.settings import MOST_WORKERS

logger = logging.getLogger(__name__)

Deliver = Callable[[list[StreamResult]], None]
Report = Callable[[RoundReport], None]
# Makes a worker at an address, or at Ray, with this number; in a thread. Raises GoodspeedError.
MakeWorker = Callable[[str, int], Worker]


class ManyWorkers:
    """Places streams and runs the rounds of all workers; made with targets that are connected."""

    def __init__(self, workers: Sequence[Worker], make_worker: MakeWorker | None = None) -> None:
        """`make_worker` for those that join later."""
        self.workers = tuple(workers)
        self._make_worker = make_worker
        self.agree: Callable[[RoundPlanner], None] = lambda planner: None  # of one that joins
        self._one_joins = asyncio.Lock()
        self._home: dict[int, Worker] = {}  # of each stream, by number
        self._counted: set[int] = set()  # streams that their device has at their worker
        self._quarantine = Quarantine()
        for worker in self.workers:
            worker.planner.quarantine = self._quarantine
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []  # beside the engines, while they run
        self.precedence = RoundPrecedence()  # one for all: messages give way to any round

    def begin(self, deliver: Deliver, report: Report) -> None:
        """Make the engines, for a service that is told of results and rounds."""
        self._deliver, self._report = deliver, report
        for worker in self.workers:
            self._make_engine(worker)

    @property
    def planners(self) -> tuple[RoundPlanner, ...]:
        """Those of all workers."""
        return tuple([worker.planner for worker in self.workers])

    @property
    def seconds_of_lone_round(self) -> float:
        """That of the worker which would serve another stream soonest."""
        serving = [worker for worker in self.workers if worker.is_serving] or self.workers
        return min([worker.planner.seconds_of_lone_round for worker in serving])

    @property
    def round_started_at(self) -> float | None:
        """When the longest of the rounds in hand began."""
        began = [worker.engine.round_started_at for worker in self.workers]
        return min([at for at in began if at is not None], default=None)

    def add(self, stream: Stream) -> None:
        """Take a stream in, where it is served best.

        Raises:
            RequestRefused: it can never fit, at no worker.
        """
        planners = {w.number: w.planner for w in self.workers if w.is_serving}
        offers = offers_to(stream, planners or dict(enumerate(self.planners)))
        offer = cheapest(offers, stream.num_tokens)
        worker = self.workers[0 if offer is None else offer.worker]
        worker.planner.add(stream)  # refuses what fits nowhere
        self._settle_at(worker, stream)

    def cancel(self, stream: Stream) -> StreamResult | None:
        """See `RoundPlanner.cancel`."""
        result = self._home[stream.number].planner.cancel(stream)
        if result is not None:
            self._forget(stream)
        return result

    def discard(self, stream: Stream) -> None:
        """See `RoundPlanner.discard`."""
        home = self._home.get(stream.number)
        if home is not None:
            home.planner.discard(stream)
            self._forget(stream)

    def park(self, stream: Stream) -> None:
        """See `RoundPlanner.park`."""
        self._home[stream.number].planner.park(stream)
        self._count(stream, is_there=False)

    def unpark(self, stream: Stream) -> None:
        """See `RoundPlanner.unpark`."""
        self._home[stream.number].planner.unpark(stream)
        self._count(stream, is_there=True)

    def wake(self) -> None:
        """There may be work for any of them."""
        for worker in self.workers:
            worker.engine.wake()

    def stop(self) -> None:
        """End `run` once all rounds in hand are settled."""
        self._is_stopping = True
        for worker in self.workers:
            worker.engine.stop()

    async def run(self) -> None:
        """Run the rounds of all workers, and bring back those that are lost, until `stop`."""
        self._is_stopping = False
        for worker in self.workers:
            self._watch(worker)
        try:
            # Around those of the engines, which do not end in the order in which they began.
            with rare_collections():
                async with asyncio.TaskGroup() as self._engines:
                    for worker in self.workers:
                        self._start_engine(worker)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks.clear()
            for worker in self.workers:
                worker.target.close("the verifier has ended")
                await asyncio.to_thread(worker.source.close)

    def add_worker(self, where: str) -> str | None:
        """Let another worker join while all run, as soon as it is reached; why not."""
        if self._make_worker is None:
            return "this verifier's workers are all that it can have"
        if len(self.workers) >= MOST_WORKERS:
            return f"{MOST_WORKERS} workers are the most that a verifier has"
        joining = self._let_join(self._make_worker, where)
        self._tasks.append(asyncio.create_task(joining, name=f"worker at {where}"))
        return None

    def drain(self, number: int) -> str | None:
        """Let a worker's streams go on elsewhere after its round; why not, if so."""
        worker = self.workers[number]
        if worker.state is not WorkerState.SERVING:
            return None
        if not any(other.is_serving for other in self.workers if other is not worker):
            return f"worker {number} is the last one that serves"
        worker.state = WorkerState.DRAINING
        logger.info("worker %d is drained", number)
        worker.engine.hold()
        return None

    def restart(self, number: int) -> str | None:
        """Drain a worker if another can take its streams, then let its process end; why not."""
        worker = self.workers[number]
        if worker.state is WorkerState.LOST:
            return f"worker {number} is being brought back already"
        worker.is_lost_by_intent = True
        if self.drain(number) is not None:
            worker.state = WorkerState.DRAINING  # its streams wait for it
        worker.engine.hold()
        return None

    async def _let_join(self, make_worker: MakeWorker, where: str) -> None:
        async with self._one_joins:  # its number is how many there are
            making = asyncio.ensure_future(asyncio.to_thread(make_worker, where, len(self.workers)))
            try:
                worker = await asyncio.shield(making)
                self.agree(worker.planner)
            except GoodspeedError as error:
                logger.error("no worker joins: %s", error)
                _close_made(making)
                return
            except asyncio.CancelledError:  # a thread cannot be
                making.add_done_callback(_close_made)
                raise
            if self._is_stopping:
                worker.target.close("the verifier ends")
                return
            first, planner = self.workers[0].planner, worker.planner
            planner.quarantine = self._quarantine
            planner.patience.paused = first.patience.paused
            planner.promises.settings = first.promises.settings
            planner.replace_policy(planner.policy, first.settings.schedule)
            self._make_engine(worker)
            self.workers = (*self.workers, worker)
            self._start_engine(worker)
            self._watch(worker)
            self._join(worker, worker.target)

    def _start_engine(self, worker: Worker) -> None:
        self._engines.create_task(worker.engine.run(), name=f"engine {worker.number}")

    def _watch(self, worker: Worker) -> None:
        watch = keep_reached(worker, self._join, lambda: self._is_stopping)
        self._tasks.append(asyncio.create_task(watch, name=f"worker {worker.number}"))

    def _make_engine(self, worker: Worker) -> None:
        def deliver_and_forget(results: list[StreamResult]) -> None:
            self._deliver(results)
            for result in results:
                if result.stream.finish is not None:
                    self._forget(result.stream)

        def count_and_report(told: RoundReport) -> None:
            worker.num_rounds += 1
            worker.round_seconds += told.forward_seconds + told.sampling_seconds
            self._report(told)

        worker.engine = Engine(
            worker.planner,
            worker.target,
            deliver_and_forget,
            count_and_report,
            at_rest=lambda: self._at_rest(worker),
        )
        worker.engine.precedence = self.precedence

    def _at_rest(self, worker: Worker) -> None:
        """Its engine is held, and no round is in hand: its streams may be moved."""
        if worker.state is WorkerState.SERVING and worker.target.is_lost():
            worker.lose()
            is_last = not any(other.is_serving for other in self.workers)
            left = ", and none is left: its streams wait" if is_last else ""
            logger.warning("worker %d is lost%s: %s", worker.number, left, worker.because)
        match worker.state:
            case WorkerState.SERVING:
                self._give_away(worker)
                worker.engine.go_on(worker.target)
            case WorkerState.DRAINING | WorkerState.LOST:
                worker.gives_away = ()
                self._empty_out(worker)
                if worker.state is WorkerState.DRAINING:
                    worker.state = WorkerState.DRAINED
                worker.change.set()
            case WorkerState.DRAINED:
                self._empty_out(worker)

    def _empty_out(self, worker: Worker) -> None:
        """All streams go on elsewhere; those that fit nowhere wait for the worker."""
        now, planner = time.monotonic(), worker.planner
        lose_cache(planner, BlockPool(planner.blocks.num_blocks, planner.blocks.block_tokens), now)
        others = [other for other in self.workers if other.is_serving and other is not worker]
        streams = [s for s in all_streams(planner) if any(other.fits(s) for other in others)]
        if not streams:
            return
        offers = [offer_of(other.number, other.planner) for other in others]
        targets = spread(offers, [stream.num_tokens for stream in streams])
        chosen = dict(zip([stream.number for stream in streams], targets, strict=True))
        for stream in in_moving_order(streams):
            to = self.workers[chosen[stream.number]]
            if not to.fits(stream):
                to = next(other for other in others if other.fits(stream))
            self._move(stream, worker, to, now)
        self.wake()

    def _give_away(self, worker: Worker) -> None:
        """What was chosen for a worker that joined, if both are still so."""
        to, streams = worker.gives_to, worker.gives_away
        worker.gives_to, worker.gives_away = None, ()
        if to is None or not to.is_serving:
            return
        now = time.monotonic()
        for stream in in_moving_order(streams):
            if self._home.get(stream.number) is worker and stream.place is not Place.GONE:
                self._move(stream, worker, to, now)
        to.engine.wake()

    def _move(self, stream: Stream, source: Worker, target: Worker, now: float) -> None:
        move_stream(stream, source.planner, target.planner, now)
        source.num_moved_out += 1
        target.num_moved_in += 1
        self._count(stream, is_there=False)
        self._settle_at(target, stream)

    def _join(self, worker: Worker, target: RemoteTarget) -> None:
        """It serves, with an empty cache; what waits or is served better here comes."""
        logger.info("worker %d serves", worker.number)
        worker.target, worker.state, worker.because = target, WorkerState.SERVING, ""
        blocks = BlockPool(target.num_blocks, target.block_tokens)
        lose_cache(worker.planner, blocks, time.monotonic())
        worker.engine.go_on(target)
        for other in self.workers:
            if not other.is_serving and other.engine.round_started_at is None:
                self._empty_out(other)
        self._invite(worker)

    def _invite(self, worker: Worker) -> None:
        others = [other for other in self.workers if other.is_serving and other is not worker]
        offers = [
            (
                offer_of(other.number, other.planner),
                [(s.number, s.num_tokens) for s in other.movable_to(worker)],
            )
            for other in others
        ]
        chosen = set(moves_to(offer_of(worker.number, worker.planner), offers))
        for other in others:
            streams = [s for s in other.movable_to(worker) if s.number in chosen]
            if streams:
                other.gives_away, other.gives_to = streams, worker
                other.engine.hold()

    def _settle_at(self, worker: Worker, stream: Stream) -> None:
        self._home[stream.number] = worker
        goodput = stream.device_estimates.goodput
        if isinstance(goodput, GoodputOfWorkers):
            stream.estimates.goodput = goodput.at(worker.number)
        self._count(stream, is_there=stream.place is not Place.PARKED)

    def _forget(self, stream: Stream) -> None:
        self._home.pop(stream.number, None)
        self._count(stream, is_there=False)

    def _count(self, stream: Stream, *, is_there: bool) -> None:
        goodput = stream.estimates.goodput
        if is_there is (stream.number in self._counted) or not isinstance(goodput, GoodputAtWorker):
            return
        goodput.num_streams += 1 if is_there else -1
        self._counted ^= {stream.number}


def _close_made(making: asyncio.Future[Worker]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().target.close("the verifier has ended")
