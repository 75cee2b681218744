"""The drafting loop: asks the streams what to compute, runs the draft model in its own thread.

One llama.cpp context serves all streams, each in its own slot, batched as their work falls
together. This module must never decide what to draft; `edge_agent.drafting.stream` does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, assert_never

import msgspec

from edge_agent.draft_model.drafter import Drafter, DraftInterrupted, Forward
from edge_agent.drafting.device_rest import DeviceRest
from edge_agent.drafting.drafter_choice import DrafterChoice, drafter_rates
from edge_agent.drafting.step import DraftStep
from edge_agent.drafting.stream import AgentStream
from shared.errors import ModelError
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import Draft, Ready
from shared.speculation.calibration import Calibration

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

SendDraft = Callable[[AgentStream, Ready | Draft], None]
_Job = tuple[int, AgentStream, DraftStep]


class _Drawn(msgspec.Struct, frozen=True):
    """The step was computed; `token` is None where nothing was to be drawn, or drafting stops."""

    token: DraftToken | None


class _Lost(msgspec.Struct, frozen=True):
    """Nothing was computed: the slot holds less than the step builds on, or it was interrupted."""

    num_held: int


class _Failed(msgspec.Struct, frozen=True):
    """The draft model cannot do this step."""

    error: ModelError


_Result = _Drawn | _Lost | _Failed


class DraftingLoop:
    """Drafts for up to `drafter.num_slots` streams; streams beyond that wait for a free slot.

    Those that wait draft what n-grams suggest, as all do on a board without a model.
    """

    def __init__(self, drafter: Drafter, send: SendDraft) -> None:
        self._drafter = drafter
        self._send = send
        self.draft_number = 0  # of this draft, as the verifier was told
        self._streams: list[AgentStream] = []
        self._slots: list[AgentStream | None] = [None] * drafter.num_slots
        self._waiting: list[AgentStream] = []
        self._running: list[_Job] = []  # what the draft model computes
        self.computing_since: float | None = None  # by time.monotonic(); None: it waits
        self.draft_token_seconds = 0.0  # of the latest that the model drew alone; 0: none yet
        self._failing_slots: set[int] = set()
        self._rates = drafter_rates()  # of all streams so far
        self._rest = DeviceRest()
        self._calibration = Calibration()  # likewise
        self._work = asyncio.Event()

    def add(self, stream: AgentStream) -> None:
        """Draft for this stream from now on; before it is opened."""
        stream.watch.calibration = self._calibration
        stream.drafter_choice = DrafterChoice(stream.settings.ngram_tokens, self._rates.branch())
        stream.leave_slot()
        self._rest.begin(stream, self._streams)
        self._streams.append(stream)
        if stream.settings.has_model:
            self._waiting.append(stream)
            self._fill_slots()
        self._work.set()

    def remove(self, stream: AgentStream) -> None:
        """The stream ended; its slot is free for the next one."""
        if stream in self._streams:
            self._streams.remove(stream)
            self._rest.note(stream)
        if stream in self._waiting:
            self._waiting.remove(stream)
        elif stream in self._slots:
            self._slots[self._slots.index(stream)] = None
            stream.leave_slot()
            self._fill_slots()
            self._stop_if_futile()
            self._work.set()

    def wake(self) -> None:
        """A stream heard from the verifier: it may have something to compute, or be ready."""
        for stream in self._streams:
            if stream.take_ready_without_model():
                self._send(stream, Ready(stream.channel, self.draft_number))
        self._stop_if_futile()
        self._work.set()

    async def run(self) -> None:
        """Compute until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="goodspeed-drafter") as thread:
            try:
                while True:
                    jobs = self._begin_jobs()
                    if not jobs:
                        await self._work.wait()
                        self._work.clear()
                        continue
                    self.computing_since = started_at = time.monotonic()
                    self._running = jobs
                    results = await loop.run_in_executor(thread, self._compute, jobs)
                    self._running = []
                    self.computing_since = None
                    now = time.monotonic()
                    self._settle(jobs, results, now - started_at, now)
            finally:
                self._drafter.interrupt()

    def _stop_if_futile(self) -> None:
        """Abort the draft model where all that it reads became wrong: a token takes long there."""
        if self._running and all(self._is_futile(*job) for job in self._running):
            self._drafter.interrupt()

    def _is_futile(self, slot: int, stream: AgentStream, step: DraftStep) -> bool:
        return self._slots[slot] is not stream or stream.feed.is_overtaken(step.num_tokens)

    def _fill_slots(self) -> None:
        for slot, stream in enumerate(self._slots):
            if stream is None and self._waiting:
                self._slots[slot] = waiting = self._waiting.pop(0)
                waiting.take_slot()

    def _begin_jobs(self) -> list[_Job]:
        jobs = []
        for slot, stream in enumerate(self._slots):
            if stream is not None and (step := stream.next_step()) is not None:
                jobs.append((slot, stream, step))
        return jobs

    def _compute(self, jobs: Sequence[_Job]) -> list[_Result]:
        """In the drafting thread: roll back, feed, draw; a failing step takes no other along."""
        try:
            return self._attempt(jobs)
        except DraftInterrupted:
            return [self._lose(slot) for slot, _, _ in jobs]
        except ModelError as error:
            if len(jobs) == 1:
                return [_Failed(error)]
        return [result for job in jobs for result in self._compute([job])]

    def _attempt(self, jobs: Sequence[_Job]) -> list[_Result]:
        runnable = [job for job in jobs if self._rolls_back(*job)]
        batch = [Forward(slot, step.token_ids, step.spec is not None) for slot, _, step in runnable]
        logits = self._drafter.forward(batch) if batch else []
        drawn = {
            slot: _draw(step, row) for (slot, _, step), row in zip(runnable, logits, strict=True)
        }
        return [drawn[slot] if slot in drawn else self._lose(slot) for slot, _, _ in jobs]

    def _lose(self, slot: int) -> _Lost:
        return _Lost(self._drafter.num_tokens(slot))

    def _rolls_back(self, slot: int, _: AgentStream, step: DraftStep) -> bool:
        num_held, num_wanted = self._drafter.num_tokens(slot), step.num_kept_tokens
        if num_held > num_wanted:
            num_held = self._drafter.truncate(slot, num_wanted)
        return num_held == num_wanted

    def _settle(
        self, jobs: Sequence[_Job], results: Sequence[_Result], seconds: float, now: float
    ) -> None:
        for (slot, stream, step), result in zip(jobs, results, strict=True):
            if self._slots[slot] is not stream:
                continue  # it ended meanwhile
            match result:
                case _Drawn():
                    self._failing_slots.discard(slot)
                    drafts = stream.record_step(step, result.token, seconds, now)
                    if result.token is not None and len(step.token_ids) == 1:
                        self.draft_token_seconds = seconds
                case _Lost(num_held):
                    drafts = stream.restart_feeding(num_held)
                case _Failed():
                    # Once for each series of failures; they come as often as verdicts do.
                    level = logging.DEBUG if slot in self._failing_slots else logging.WARNING
                    logger.log(level, "the draft model failed: %s", result.error)
                    self._failing_slots.add(slot)
                    drafts = stream.record_failure(step)
                case _:
                    assert_never(result)
            for draft in drafts:
                self._send(stream, draft)
            if stream.take_ready():
                self._send(stream, Ready(stream.channel, self.draft_number))


def _draw(step: DraftStep, logits: NDArray[np.float32] | None) -> _Result:
    try:
        return _Drawn(step.draw(logits))
    except ModelError as error:
        return _Failed(error)
