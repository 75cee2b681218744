"""The drafting loop: asks the streams what to compute, runs the draft model in its own thread.

One llama.cpp context serves all streams, each in its own slot, batched as their work falls
together. This module must never decide what to draft; `edge_agent.stream` does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from edge_agent.drafter import Drafter, DraftInterrupted, Forward
from edge_agent.stream import AgentStream, DraftStep
from shared.errors import ModelError
from shared.messages import Draft, Ready
from shared.path import DraftToken

logger = logging.getLogger(__name__)

SendDraft = Callable[[AgentStream, Ready | Draft], None]
_Job = tuple[int, AgentStream, DraftStep]


class DraftingLoop:
    """Drafts for up to `drafter.num_slots` streams; streams beyond that wait for a free slot."""

    def __init__(self, drafter: Drafter, send: SendDraft) -> None:
        self._drafter = drafter
        self._send = send
        self._slots: list[AgentStream | None] = [None] * drafter.num_slots
        self._waiting: list[AgentStream] = []
        self._work = asyncio.Event()

    def add(self, stream: AgentStream) -> None:
        """Draft for this stream from now on."""
        self._waiting.append(stream)
        self._fill_slots()
        self._work.set()

    def remove(self, stream: AgentStream) -> None:
        """The stream ended; its slot is free for the next one."""
        if stream in self._waiting:
            self._waiting.remove(stream)
        elif stream in self._slots:
            self._slots[self._slots.index(stream)] = None
            stream.version += 1  # what is being computed for it is for nobody
            self._fill_slots()
            self._work.set()

    def wake(self) -> None:
        """A stream may have something to compute."""
        self._work.set()

    async def run(self) -> None:
        """Compute until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="goodspeed-drafter") as thread:
            try:
                while True:
                    jobs = self._jobs()
                    if not jobs:
                        await self._work.wait()
                        self._work.clear()
                        continue
                    started_at = time.monotonic()
                    drawn = await loop.run_in_executor(thread, self._compute, jobs)
                    now = time.monotonic()
                    self._settle(jobs, drawn, now - started_at, now)
            finally:
                self._drafter.interrupt()

    # --- private -------------------------------------------------------------------------------

    def _fill_slots(self) -> None:
        for slot, stream in enumerate(self._slots):
            if stream is None and self._waiting:
                self._slots[slot] = self._waiting.pop(0)

    def _jobs(self) -> list[_Job]:
        jobs = []
        for slot, stream in enumerate(self._slots):
            if stream is not None and (step := stream.next_step()) is not None:
                jobs.append((slot, stream, step))
        return jobs

    def _compute(self, jobs: Sequence[_Job]) -> list[DraftToken | None] | None:
        """In the drafting thread: roll back, feed, draw; None when the model failed."""
        try:
            batch = [self._forward(slot, step) for slot, _, step in jobs]
            logits = self._drafter.forward(batch)
            return [step.draw(row) for (_, _, step), row in zip(jobs, logits, strict=True)]
        except DraftInterrupted:
            return None
        except ModelError as error:
            logger.warning("the draft model failed: %s", error)
            return None

    def _forward(self, slot: int, step: DraftStep) -> Forward:
        num_held = self._drafter.num_tokens(slot)
        num_wanted = min(step.num_kept_tokens, num_held)
        num_kept = self._drafter.truncate(slot, num_wanted) if num_wanted < num_held else num_held
        if num_kept != step.num_kept_tokens:
            raise ModelError(f"the draft model kept {num_kept} of {step.num_kept_tokens} tokens")
        return Forward(slot, step.token_ids, step.spec is not None)

    def _settle(
        self,
        jobs: Sequence[_Job],
        drawn: list[DraftToken | None] | None,
        seconds: float,
        now: float,
    ) -> None:
        for i, (slot, stream, step) in enumerate(jobs):
            if drawn is None:
                stream.restart_feeding()
                self._drafter.truncate(slot, 0)
                continue
            for draft in stream.fed(step, drawn[i], seconds, now):
                self._send(stream, draft)
            if stream.becomes_ready():
                self._send(stream, Ready(stream.channel))
