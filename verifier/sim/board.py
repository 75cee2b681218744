"""A simulated board: the agent's own streams, with a clock in place of a draft model.

The one place where the verifier's side knows the agent's (pyproject.toml names the exception): a
simulator that played other boards than the real ones would say little. This module must never
decide what is drafted; `edge_agent.drafting.stream` does.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge_agent.drafting.board_state import Readiness
from edge_agent.drafting.device_rest import DeviceRest
from edge_agent.drafting.draw_spec import DrawSpec, certain_token
from edge_agent.drafting.pending_draft import COUPLED_DRAFT_TOKENS
from edge_agent.drafting.settings import PREFILL_CHUNK_TOKENS, DraftSettings
from edge_agent.drafting.step import DraftStep
from edge_agent.drafting.stream import AgentStream
from shared.protocol.draft_path import DraftToken
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
    step: DraftStep  # with all draws but the last where it is a run of them

    def draw(self, spec: DrawSpec, index: int, now: float) -> DraftToken:
        """What the draw of this index comes to, that ends now."""
        # Where a verdict took the window meanwhile its path begins behind this draw.
        position = spec.position + index
        token_id = self.text.draft_token(position, max(position - self.stream.path.base, 0), now)
        return certain_token(token_id, spec, self.text.confidence(position))


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
        self._draw_seconds = 0.0  # of each draw
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
        self._catch_up()
        return self._ended_seconds + (self._clock.now - self._began_at if self._jobs else 0.0)

    def leave(self) -> None:
        """The board is gone."""
        self._streams.clear()
        self._stop()

    def receive(self, message: Opened | Verdict) -> None:
        """A message came from the verifier."""
        self._catch_up()
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
        if self._jobs:
            self._pass_ended_draws()
            self._ended_seconds += self._clock.now - self._began_at
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
        num_tokens, draws = 0, False
        for stream, text in self._streams.values():
            step = stream.next_step()
            if step is not None:
                self._jobs.append(_Job(stream, text, step))
                num_tokens += len(step.token_ids)
                draws = draws or step.spec is not None
        if not self._jobs:
            return
        self._began_at = now
        self._draw_seconds = self._spec.step_seconds(num_tokens, draws=draws)
        if len(self._streams) == 1 and not self._spec.stalls:
            self._jobs = [self._run_of(self._jobs[0])]
        self._call_at_end()

    def _run_of(self, job: _Job) -> _Job:
        """This step and all draws behind it that make nothing due before the last of them."""
        stream, spec, at = job.stream, job.step.spec, self._began_at
        if spec is None:
            return job
        tokens = []
        for index in range(num_silent_draws(stream, job.step, self._draw_seconds, at)):
            at += self._draw_seconds
            tokens.append(job.draw(spec, index, at))
        if not tokens or stream.watch.is_spent(stream.path.live, stream.unsent.tokens, tokens):
            return job
        return _Job(stream, job.text, job.step.behind(tokens))

    def _call_at_end(self) -> None:
        at = self._began_at
        for _ in range(1 + len(self._jobs[0].step.silent)):
            at += self._draw_seconds
        self._clock.call_at(at, self._finish, self._jobs_number)

    def _catch_up(self) -> None:
        """Record the draws of a run that have ended; the one that is computed ends alone."""
        if not self._jobs or not self._jobs[0].step.silent:
            return
        stream, text, run = self._jobs[0].stream, self._jobs[0].text, self._jobs[0].step
        num_ended = self._pass_ended_draws()
        begun: DraftStep | None = run.behind([])
        if num_ended:
            *silent, last = run.silent[:num_ended]
            due = stream.record_step(run.behind(silent), last, self._draw_seconds, self._began_at)
            begun = stream.next_step()
            assert not due, "a draw that was to be silent was not"
        assert begun is not None, "a run of draws was not to go on"
        self._jobs = [_Job(stream, text, begun)]
        self._jobs_number += 1
        self._call_at_end()

    def _pass_ended_draws(self) -> int:
        """How many draws of the run have ended before the one that is computed, or ends now."""
        num_ended = 0
        for _ in self._jobs[0].step.silent:
            ended_at = self._began_at + self._draw_seconds
            if ended_at > self._clock.now:
                break
            self._ended_seconds += ended_at - self._began_at
            self._began_at = ended_at
            num_ended += 1
        return num_ended

    def _finish(self, number: int) -> None:
        if number != self._jobs_number:
            return  # it was aborted
        now, seconds = self._clock.now, self._draw_seconds
        jobs = self._jobs
        self._stop()
        for job in jobs:
            stream = job.stream
            if stream.channel not in self._streams:
                continue
            spec = job.step.spec
            drawn = None if spec is None else job.draw(spec, len(job.step.silent), now)
            self._send_all(stream.record_step(job.step, drawn, seconds, now))
            if stream.take_ready():
                self._send(Ready(stream.channel))
        self._draft_on()


def num_silent_draws(stream: AgentStream, step: DraftStep, seconds: float, now: float) -> int:
    """Draws from this step on, begun now and each so long, that send nothing, but for a doubt.

    A forecast of what the stream does, which a test holds to it; with n-grams, rows or more than
    one token to read the stream is asked after each draw.
    """
    if len(step.token_ids) != 1 or stream.mode == "rejection":
        return 0
    if stream.drafter_choice.is_on or stream.changes.is_any:
        return 0
    if stream.state.readiness is not Readiness.READY:
        return 0  # it may be said behind any draw
    num_unsent = len(stream.unsent.tokens)
    room = stream.window - len(stream.path.live) - num_unsent
    num_short = (stream.draft_length or COUPLED_DRAFT_TOKENS) - num_unsent
    most = min(room, num_short, stream.settings.context_tokens - stream.num_tokens) - 1
    return max(most, 0) if stream.draft_length else stream.pace.draws_in_time(most, seconds, now)
