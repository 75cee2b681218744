"""What a finished round teaches, kept until there is time to learn it.

The next round must not wait for it. Pure; this module must never look at a round that runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.speculation.smoothing import smoothed
from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.look_back import Chunk, chunks_of
from verifier.scheduling.measured_payoff import MeasuredPayoff
from verifier.scheduling.outlook import NO_PACE, Pace
from verifier.scheduling.round_facts import round_facts
from verifier.streams.acceptance_estimate import warm_step
from verifier.streams.estimates import GoodputEstimate
from verifier.streams.settled import Settled
from verifier.streams.stream import Stream
from verifier.target.round import Round, RoundOutcome

# Rounds differ by what is in them; twenty follow a fleet that changes.
PACE_SMOOTHING = 0.05
BETWEEN_FALLING = 0.5
# Until a prompt was scored: what a row of 151,936 ids takes a slow core.
UNMEASURED_TOKEN_SECONDS = 0.001
SCORING_SMOOTHING = 0.2
# What one round may count for, in usual ones: a stall of a second says nothing about the next.
MOST_STRETCH = 2.0


class _Lesson(NamedTuple):
    num_round_tokens: int
    num_context_tokens: int
    chunks: tuple[Chunk, ...]
    round_seconds: float
    elapsed_seconds: float  # from the end of the round before
    streams: list[Stream]  # all open ones, with or without a part in the round
    settled: Sequence[tuple[Stream, Settled]]  # what its streams got


class Lessons:
    """One round's lesson at most: `keep` it at its end, `learn` before the next one's."""

    def __init__(self, curve: CostCurve, payoff: MeasuredPayoff) -> None:
        self._curve = curve
        self._payoff = payoff
        self._lesson: _Lesson | None = None
        self._last_finish: float | None = None
        self.pace = NO_PACE
        self.scored_token_seconds = UNMEASURED_TOKEN_SECONDS  # beyond what the curve says

    def keep(
        self,
        round_: Round,
        outcome: RoundOutcome,
        open_streams: Iterable[Stream],
        settled: Sequence[tuple[Stream, Settled]],
        round_seconds: float,
        now: float,
    ) -> None:
        """Note what this round took and gave; ended streams count as open until it is noted."""
        assert self._lesson is None, "the round before was not learned"
        # Waiting counts, but not the time before the first stream came.
        elapsed = now - self._last_finish if self._last_finish is not None else round_seconds
        self._last_finish = now
        chunks = chunks_of(round_)
        if outcome.num_reruns:  # its time teaches nothing about rounds
            num_tokens = round_.num_tokens, round_.context_tokens
            round_seconds = self._curve.round_seconds(*num_tokens, chunks)
        if outcome.scoring_seconds:  # of which the curve knows nothing
            round_seconds -= outcome.scoring_seconds
            seconds = outcome.scoring_seconds / round_.num_prompt_rows
            before = self.scored_token_seconds
            self.scored_token_seconds = smoothed(before, seconds, SCORING_SMOOTHING)
        self._lesson = _Lesson(
            num_round_tokens=round_.num_tokens,
            num_context_tokens=round_.context_tokens,
            chunks=chunks,
            round_seconds=round_seconds,
            elapsed_seconds=elapsed,
            streams=list(open_streams),
            settled=settled,
        )

    def learn(self) -> None:
        """Let the cost curve, what drafts pay, and every device with an open stream learn.

        A device without a part in the round got 0 tokens. Nothing happens where nothing is kept.
        """
        lesson, self._lesson = self._lesson, None
        if lesson is None:
            return
        self._curve.observe(
            lesson.num_round_tokens,
            lesson.num_context_tokens,
            lesson.round_seconds,
            lesson.chunks,
        )
        if not lesson.chunks:  # prompts lengthen rounds at times
            self._follow_pace(lesson.elapsed_seconds, lesson.round_seconds)
        goodputs = [stream.estimates.goodput for stream in lesson.streams]
        tokens: dict[GoodputEstimate, int] = dict.fromkeys(goodputs, 0)
        for stream, settled in lesson.settled:
            tokens[stream.estimates.goodput] += settled.num_tokens
        pairs = zip(goodputs, lesson.streams, strict=True)
        writing = {goodput for goodput, stream in pairs if stream.output_ids}
        for goodput, num_tokens in tokens.items():
            goodput.observe_round(num_tokens, lesson.elapsed_seconds, writes=goodput in writing)
        if not lesson.chunks:
            _observe_draft_paces(lesson)
        self._payoff.observe(
            round_facts(
                lesson.elapsed_seconds,
                lesson.streams,
                lesson.settled,
                reads_prompts=bool(lesson.chunks),
            )
        )

    def _follow_pace(self, elapsed_seconds: float, round_seconds: float) -> None:
        before, num_rounds, between = self.pace
        if before is not None:
            elapsed_seconds = min(elapsed_seconds, MOST_STRETCH * before)
        step = warm_step(PACE_SMOOTHING, num_rounds)
        mean_seconds = smoothed(before, elapsed_seconds, step)
        sample = max(elapsed_seconds - round_seconds, 0.0)
        # Where drafts are waited for that is no work of the verifier's, so the short ones count.
        step = max(step, BETWEEN_FALLING) if sample < between else step
        self.pace = Pace(mean_seconds, num_rounds + 1, between + step * (sample - between))

    def forget_pace(self) -> None:
        """There is no open stream: the time until the next one counts as waiting for none."""
        self._last_finish = None


def _observe_draft_paces(lesson: _Lesson) -> None:
    """Of streams on boards that hold several drafts."""
    compared = [
        (stream, stream.estimates.draft_pace)
        for stream in lesson.streams
        if stream.estimates.draft_pace is not None and stream.window and not stream.rests
    ]
    if not compared:
        return
    tokens = {stream.number: settled.num_tokens for stream, settled in lesson.settled}
    for stream, pace in compared:
        pace.observe(tokens.get(stream.number, 0), lesson.elapsed_seconds)
