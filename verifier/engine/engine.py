"""The engine loop: plan a round, let the target run it in one thread, settle it, hand verdicts out.

The planner lives on the event loop and the target in the thread, so neither needs a lock and
the loop is never blocked. The next round starts as soon as the tokens of this one are committed
and a few verdicts are sent: all others are sent, estimates learn and drafts are planned while it
runs. This module must never decide anything itself.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from shared.daemon.lifecycle import rare_collections
from verifier.engine.round_precedence import RoundPrecedence
from verifier.engine.round_run import run_round
from verifier.engine.verdicts import told_first
from verifier.placement.relocation import take_back_round
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.target.round import ItemFailure, Round, RoundOutcome
from verifier.target.target import SentTarget, TargetModel

# How long the loop waits at most until a round is under way: a worker may take none.
MOST_START_SECONDS = 0.01


class RoundReport(msgspec.Struct, frozen=True):
    """What one round cost, for metrics; all in seconds.

    `total_seconds` of all rounds add up to the time in which there was work: a round starts where
    the one before is settled, or where work came in.
    """

    round_: Round
    plan_seconds: float  # choosing what takes part
    forward_seconds: float
    sampling_seconds: float
    settle_seconds: float  # committing, granting, the first verdicts: the next round waits for it
    deliver_seconds: float  # handing the other verdicts out
    follow_up_seconds: float  # learning, and planning the drafts of the round that runs now
    total_seconds: float  # from the start of planning until it is settled

    @property
    def overhead_seconds(self) -> float:
        """What planner, event loop and Python's lock add to what the target needs."""
        return self.total_seconds - self.forward_seconds - self.sampling_seconds


class _Running(msgspec.Struct, frozen=True):
    """A round in the engine thread."""

    round_: Round
    started_at: float
    planned_at: float
    outcome: asyncio.Future[RoundOutcome | ItemFailure]  # a failure: of the whole round


class _Settled(msgspec.Struct, frozen=True):
    """A round that is over, but few boards were told."""

    results: list[StreamResult]  # that are to be told
    running: _Running
    outcome: RoundOutcome | ItemFailure
    verified_at: float
    settled_at: float


class Engine:
    """Runs rounds until it is stopped."""

    def __init__(
        self,
        planner: RoundPlanner,
        target: TargetModel,
        deliver: Callable[[list[StreamResult]], None],
        report: Callable[[RoundReport], None],
        at_rest: Callable[[], None] = lambda: None,
    ) -> None:
        """`at_rest`: called where it is held and no round is in hand; streams may be moved then."""
        self._planner = planner
        self._target = target
        self._deliver = deliver
        self._report = report
        self._at_rest = at_rest
        self.is_held = False
        self.precedence = RoundPrecedence()
        self._work = asyncio.Event()
        self._is_stopping = False
        self.round_started_at: float | None = None  # of the one in hand, by time.monotonic()

    def wake(self) -> None:
        """There may be work: a stream, a draft or a cancellation came in."""
        self._work.set()

    def hold(self) -> None:
        """Start no round until `go_on`; so it is by itself when the target is lost in a round."""
        self.is_held = True
        self._work.set()

    def go_on(self, target: TargetModel) -> None:
        """Run rounds again, at this target, whose cache is the planner's."""
        self._target = target
        self.is_held = False
        self._work.set()

    def stop(self) -> None:
        """End `run` once the round in hand is settled and its verdicts are handed out."""
        self._is_stopping = True
        self._work.set()

    async def run(self) -> None:
        """Plan, verify, settle; sleeps while no stream has work."""
        with (
            rare_collections(),
            ThreadPoolExecutor(1, thread_name_prefix="goodspeed-engine") as thread,
        ):
            settled: _Settled | None = None
            while True:
                running = self._start_round(thread)
                # Nothing was awaited since it was settled, so no message can overtake.
                self._catch_up(settled)
                settled = None
                if running is not None:
                    # However fast the target is: its answer comes with a later turn of the loop.
                    settled = self._settle(running, await running.outcome)
                elif self._is_stopping:
                    break
                else:
                    if self.is_held:
                        self._at_rest()
                    await self._wait_for_work()
        self._is_stopping = False

    def _start_round(self, thread: ThreadPoolExecutor) -> _Running | None:
        started_at = time.monotonic()
        is_idle = self._is_stopping or self.is_held
        round_ = None if is_idle else self._planner.start_round(started_at)
        self.precedence.give_up()  # before the target has the next one
        if round_ is None:
            return None
        planned_at = self.round_started_at = time.monotonic()
        is_taken = threading.Event()
        if isinstance(self._target, SentTarget) and self._target.send_ahead(round_):
            is_taken.set()
        outcome = asyncio.get_running_loop().run_in_executor(thread, self._verify, round_, is_taken)
        # Only one thread has the interpreter, and it keeps it unless it waits or is made to change:
        # the target would start behind verdicts. With 1.5 ms of them, 1 ms until a GPU works on its
        # own and 8 ms of that, rounds took 9.4 ms with this wait, 11.0 without (2 cores, 2026-11).
        is_taken.wait(MOST_START_SECONDS)
        return _Running(round_, started_at, planned_at, outcome)

    def _verify(self, round_: Round, is_taken: threading.Event) -> RoundOutcome | ItemFailure:
        if isinstance(self._target, SentTarget):  # the rest of the round must be sent first
            self._target.when_begun = is_taken.set
        else:
            is_taken.set()
        outcome = run_round(self._target, round_)
        is_taken.set()
        self.precedence.claim()
        return outcome

    def _settle(self, running: _Running, outcome: RoundOutcome | ItemFailure) -> _Settled:
        verified_at = time.monotonic()
        self.round_started_at = None
        if outcome is ItemFailure.WORKER_LOST:
            self.is_held = True
            results = take_back_round(self._planner)
        elif isinstance(outcome, ItemFailure):
            results = self._planner.abandon_round(outcome)
        else:
            seconds = verified_at - running.started_at
            settled = self._planner.finish_round(running.round_, outcome, seconds, verified_at)
            first, results = told_first(settled)
            if first:
                self._deliver(first)
        return _Settled(results, running, outcome, verified_at, time.monotonic())

    def _catch_up(self, settled: _Settled | None) -> None:
        """What the round that runs now did not wait for."""
        delivering_from = time.monotonic()
        if settled is not None:
            self._deliver(settled.results)
        following_from = time.monotonic()
        self._planner.follow_up(following_from)
        if settled is None or isinstance(settled.outcome, ItemFailure):
            return
        running = settled.running
        self._report(
            RoundReport(
                round_=running.round_,
                plan_seconds=running.planned_at - running.started_at,
                forward_seconds=settled.outcome.forward_seconds,
                sampling_seconds=settled.outcome.sampling_seconds,
                settle_seconds=settled.settled_at - settled.verified_at,
                deliver_seconds=following_from - delivering_from,
                follow_up_seconds=time.monotonic() - following_from,
                total_seconds=settled.settled_at - running.started_at,
            )
        )

    async def _wait_for_work(self) -> None:
        deadline = None if self.is_held else self._planner.next_deadline()
        delay = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        try:
            async with asyncio.timeout(delay):
                await self._work.wait()
        except TimeoutError:
            pass
        self._work.clear()
