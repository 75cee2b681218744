"""The engine loop: plan a round, let the target run it in one thread, settle it, hand verdicts out.

The planner lives on the event loop and the target in the thread, so neither needs a lock and
the loop is never blocked.  This module must never decide anything itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from verifier.rounds import RoundPlanner, StreamResult
from verifier.target import Round, RoundOutcome, TargetModel

logger = logging.getLogger(__name__)


class RoundReport(msgspec.Struct, frozen=True):
    """What one round cost, for metrics; all in seconds."""

    round_: Round
    plan_seconds: float
    forward_seconds: float
    sampling_seconds: float
    settle_seconds: float
    total_seconds: float  # from the start of planning until the verdicts were handed out


class Engine:
    """Runs rounds until it is stopped."""

    def __init__(
        self,
        planner: RoundPlanner,
        target: TargetModel,
        deliver: Callable[[list[StreamResult]], None],
        report: Callable[[RoundReport], None],
    ) -> None:
        self._planner = planner
        self._target = target
        self._deliver = deliver
        self._report = report
        self._work = asyncio.Event()
        self._is_stopping = False

    def wake(self) -> None:
        """There may be work: a stream, a draft or a cancellation came in."""
        self._work.set()

    def stop(self) -> None:
        """End `run` once the round in hand is settled."""
        self._is_stopping = True
        self._work.set()

    async def run(self) -> None:
        """Plan, verify, settle; sleeps while no stream has work."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="goodspeed-engine") as thread:
            while not self._is_stopping:
                started_at = time.monotonic()
                round_ = self._planner.start_round(started_at)
                if round_ is None:
                    await self._wait_for_work()
                    continue
                planned_at = time.monotonic()
                outcome = await loop.run_in_executor(thread, self._verify, round_)
                self._settle(round_, outcome, started_at, planned_at)
                # Let the readers take in what arrived with the end of the round.
                await asyncio.sleep(0)
        self._is_stopping = False

    def _verify(self, round_: Round) -> RoundOutcome | None:
        try:
            return self._target.verify(round_)
        except Exception:
            logger.exception("the target model failed in a round of %d tokens", round_.num_tokens)
            return None

    def _settle(
        self, round_: Round, outcome: RoundOutcome | None, started_at: float, planned_at: float
    ) -> None:
        verified_at = time.monotonic()
        if outcome is None:
            self._deliver(self._planner.abandon_round())
            return
        results = self._planner.finish_round(round_, outcome, verified_at - started_at, verified_at)
        self._deliver(results)
        settled_at = time.monotonic()
        self._report(
            RoundReport(
                round_=round_,
                plan_seconds=planned_at - started_at,
                forward_seconds=outcome.forward_seconds,
                sampling_seconds=outcome.sampling_seconds,
                settle_seconds=settled_at - verified_at,
                total_seconds=settled_at - started_at,
            )
        )

    async def _wait_for_work(self) -> None:
        deadline = self._planner.next_deadline()
        delay = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        try:
            async with asyncio.timeout(delay):
                await self._work.wait()
        except TimeoutError:
            pass
        self._work.clear()
