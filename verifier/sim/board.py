"""A simulated board: the agent's own streams, with a clock in place of a draft model.

The one place where the verifier's side knows the agent's (pyproject.toml names the exception): a
simulator that played other boards than the real ones would say little. This module must never
decide what is drafted; `edge_agent.drafting.stream` does.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge_agent.drafting.device_rest import DeviceRest
from edge_agent.drafting.draw_spec import certain_token
from edge_agent.drafting.settings import PREFILL_CHUNK_TOKENS, DraftSettings
from edge_agent.drafting.step import DraftStep
from edge_agent.drafting.stream import AgentStream
from shared.protocol.messages import Draft, Opened, Ready, Verdict
from shared.speculation.sampling import SamplingParameters
from verifier.sim.clock import Clock
from verifier.sim.scenario import Stall
from verifier.sim.text import VOCAB_SIZE, StreamText

# Nothing here depends on how much a draft model can hold.
CONTEXT_TOKENS = 1 << 20


class BoardSpec(msgspec.Struct, frozen=True):
    """How fast a board is, and when it stands still."""

    token_seconds: float
    batch_growth: float  # part of that, for each further token of a step
    round_trip_seconds: float
    stalls: tuple[Stall, ...] = ()
    tells_confidence: bool = True

    def step_seconds(self, num_tokens: int, *, draws: bool) -> float:
        """Of a step that reads so many tokens; the newest one is read in the pass that drafts."""
        further = max(num_tokens - draws, 0) * self.batch_growth
        return self.token_seconds * (draws + further)

    def stalls_until(self, now: float) -> float | None:
        """When the stall ends in which the board is now, if it is in one."""
        if not self.stalls:
            return None
        ends = [s.to_seconds for s in self.stalls if s.from_seconds <= now < s.to_seconds]
        return max(ends, default=None)


class _Job(msgspec.Struct, frozen=True):
    stream: AgentStream
    text: StreamText
    step: DraftStep


class SimBoard:
    """All streams of one device over one draft model."""

    def __init__(
        self, clock: Clock, spec: BoardSpec, send: Callable[[Ready | Draft], None]
    ) -> None:
        self._clock = clock
        self._spec = spec
        self._send = send
        self._streams: dict[int, tuple[AgentStream, StreamText]] = {}
        self._rest = DeviceRest()
        self._jobs: list[_Job] = []  # that the draft model computes
        self._jobs_number = 0
        self._began_at = 0.0  # with these
        self._ended_seconds = 0.0  # of jobs before these
        self._wakes_at = 0.0

    def open(
        self, channel: int, text: StreamText, sampling: SamplingParameters, *, drafts: bool
    ) -> None:
        """Another stream, that the verifier is about to open; not `drafts`: nothing is read."""
        settings = DraftSettings(
            row_entries=32,
            confidence_stop=0.0,
            prefill_chunk_tokens=PREFILL_CHUNK_TOKENS,
            context_tokens=CONTEXT_TOKENS,
        )
        stream = AgentStream(
            channel=channel,
            vocab_size=VOCAB_SIZE,
            settings=settings,
            sampling=sampling,
            drafts=drafts,
        )
        stream.reopen(channel)
        self._rest.begin(stream, [other for other, _ in self._streams.values()])
        stream.pace.round_trip_seconds = self._spec.round_trip_seconds
        stream.watch.is_told = self._spec.tells_confidence
        self._streams[channel] = (stream, text)

    @property
    def computed_seconds(self) -> float:
        """For how long its draft model has computed so far."""
        return self._ended_seconds + (self._clock.now - self._began_at if self._jobs else 0.0)

    def leave(self) -> None:
        """The board is gone."""
        self._streams.clear()
        self._stop()

    def receive(self, message: Opened | Verdict) -> None:
        """A message came from the verifier."""
        if message.channel not in self._streams:
            return
        stream, _ = self._streams[message.channel]
        if isinstance(message, Opened):
            stream.start(message)
        else:
            stream.commit_verdict(message, self._clock.now)
            if message.finish is not None:
                del self._streams[message.channel]
                self._rest.note(stream)
        self._stop_if_futile()
        if message.channel in self._streams:
            self._send_all(stream.take_due_drafts())
        self._draft_on()

    def _send_all(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            self._send(draft)

    def _stop_if_futile(self) -> None:
        """Abort the draft model where all that it reads became wrong."""
        if self._jobs and all(
            job.stream.channel not in self._streams
            or job.stream.feed.is_overtaken(job.step.num_tokens)
            for job in self._jobs
        ):
            jobs = self._jobs
            self._stop()
            for job in jobs:
                if job.stream.channel in self._streams:
                    self._send_all(job.stream.restart_feeding(job.step.num_kept_tokens))

    def _stop(self) -> None:
        self._ended_seconds = self.computed_seconds
        self._jobs = []
        self._jobs_number += 1

    def _draft_on(self) -> None:
        """Start what the streams want computed, all of it in one step, unless one runs."""
        if self._jobs:
            return
        now = self._clock.now
        stalled_until = self._spec.stalls_until(now)
        if stalled_until is not None:
            if stalled_until != self._wakes_at:
                self._wakes_at = stalled_until
                self._clock.call_at(stalled_until, self._draft_on)
            return
        for stream, text in self._streams.values():
            step = stream.next_step()
            if step is not None:
                self._jobs.append(_Job(stream, text, step))
        if not self._jobs:
            return
        self._began_at = now
        num_tokens = sum([len(job.step.token_ids) for job in self._jobs])
        draws = any(job.step.spec is not None for job in self._jobs)
        seconds = self._spec.step_seconds(num_tokens, draws=draws)
        self._clock.call_at(now + seconds, self._finish, self._jobs_number, seconds)

    def _finish(self, number: int, seconds: float) -> None:
        if number != self._jobs_number:
            return  # it was aborted
        now = self._clock.now
        jobs = self._jobs
        self._stop()
        for job in jobs:
            stream, spec = job.stream, job.step.spec
            if stream.channel not in self._streams:
                continue
            drawn = None
            if spec is not None:
                # Where a verdict took the window meanwhile its path begins behind this draw.
                depth = max(spec.position - stream.path.base, 0)
                token_id = job.text.draft_token(spec.position, depth, now)
                drawn = certain_token(token_id, spec, job.text.confidence(spec.position))
            self._send_all(stream.record_step(job.step, drawn, seconds, now))
            if stream.take_ready():
                self._send(Ready(stream.channel))
        self._draft_on()
