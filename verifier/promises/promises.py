"""Promises to streams: which are given, when tokens are due, and how long a round may be for them.

A promise is given when a stream is let in and lasts until it ends. It is given only where all that
were given before can still be kept (`verifier.promises.keeping`), with a token in every round for
streams that are promised nothing. How much longer than its cost curve says a round takes is
measured, at the percentile that is promised. A promise is the verifier's word about its own rounds:
the way of a message, and what a board owes in `rejection`, are no part of it. This module must
never read a clock or choose a draft.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.largest_within import largest_within
from verifier.cost_curve.look_back import chunks_of
from verifier.promises.keeping import Promise, owed_tokens
from verifier.promises.slo_settings import SloSettings
from verifier.promises.token_deadlines import SAME_SECONDS, TokenDeadlines
from verifier.scheduling.draft_plan import NO_DRAFTS, Grant
from verifier.streams.estimates import latest_arrival_seconds
from verifier.streams.settled import Settled
from verifier.streams.stream import Stream
from verifier.target.round import Round, RoundOutcome

# What is left of every round for streams without a promise, and for prompts.
OTHERS_TOKENS = 1
# How fast the measured stretch of rounds moves: a quantile is found within some hundred rounds.
STRETCH_STEP = 0.02
# Of streams in a round: the longest unserved first.
_TURN = attrgetter("served_round", "tested_round")
# A round that takes as long as it should, but for rounding, is no longer.
_ROUNDING = 1e-6


@dataclass(slots=True)
class SloCounts:
    """Tokens of one device's streams with an SLO, their first ones left out."""

    num_in_time: int = 0
    num_late: int = 0

    @property
    def in_time(self) -> float | None:
        """The part that came in time; None: there was none."""
        num_tokens = self.num_in_time + self.num_late
        return self.num_in_time / num_tokens if num_tokens else None


def summed_counts(all_counts: Iterable[Mapping[str, SloCounts]]) -> dict[str, SloCounts]:
    """By device, over the planners of all workers; for any thread."""
    summed: dict[str, SloCounts] = {}
    for counts in all_counts:
        for device, one in tuple(counts.items()):
            of_device = summed.setdefault(device, SloCounts())
            of_device.num_in_time += one.num_in_time
            of_device.num_late += one.num_late
    return summed


@dataclass(slots=True)
class _Held:
    """A stream with an SLO that was let in."""

    device: str
    promise: Promise
    most_tokens: int  # of its context, at its end
    deadlines: TokenDeadlines
    unkept: str = ""  # why nothing is promised; empty: it is


class _Waiting(NamedTuple):
    """A stream in the queue that cannot be promised what it should be."""

    device: str
    because: str


class Promises:
    """The promises of one planner's streams."""

    def __init__(self, settings: SloSettings, curve: CostCurve, max_round_tokens: int) -> None:
        self.settings = settings
        self.held: dict[int, _Held] = {}  # by stream: who was let in with an SLO
        self.waiting: dict[int, _Waiting] = {}  # by stream: who waits for a promise
        self.counts: dict[str, SloCounts] = {}  # by device, since the start
        self.stretch = 1.0  # of rounds over what the curve says
        self._curve = curve
        self._max_round_tokens = max_round_tokens
        self._longest_seconds = math.inf  # of a round that does not hold all; P of `keeping`

    def let_in(
        self, queue: Iterable[Stream], open_streams: Iterable[Stream], now: float
    ) -> Collection[int]:
        """Give what can be promised, in the queue's order; returns those that wait for theirs.

        Behind one that waits all that ask for a promise do: none is overtaken forever.
        `open_streams` have a place; those without a promise count with the context that they have.
        """
        self.waiting = {}
        if not self.settings.promises_any:
            return self.waiting
        most_context = sum([held.most_tokens for held in self.held.values()])
        most_context += sum([s.num_tokens for s in open_streams if s.number not in self.held])
        for stream in queue:
            slo_seconds = self.settings.seconds_of(stream.device)
            if slo_seconds <= 0.0 or stream.number in self.held:
                continue
            promise = Promise(slo_seconds, 2 if stream.request.mode == "rejection" else 1)
            with_it = most_context + stream.most_tokens
            if self.waiting:
                because = "waits behind another stream that waits for its promise"
            elif self._takes(promise, with_it, now):
                self._hold(stream, promise)
                most_context = with_it
                continue
            elif self._can_keep([promise], slo_seconds, stream.most_tokens):
                because = (
                    f"waits: a token every {1e3 * slo_seconds:.0f} ms for it, too, would break "
                    f"what {len(self._given())} streams were promised"
                )
            else:
                unkept = f"a token every {1e3 * slo_seconds:.0f} ms is promised to none: "
                self._hold(stream, promise, f"{unkept}a round takes longer")
                continue
            self.waiting[stream.number] = _Waiting(stream.device, because)
        return self.waiting

    def in_turn(self, streams: Sequence[Stream]) -> list[Stream]:
        """Who takes part first: the earliest deadline, then the longest unserved.

        Of those served last round all the same, those go first whose drafts had no room then.
        """
        if not self.held:
            return sorted(streams, key=_TURN)
        return sorted(
            streams,
            key=lambda stream: (self._due_at(stream), stream.served_round, stream.tested_round),
        )

    def most_tokens(self, streams: Sequence[Stream], now: float, max_round_tokens: int) -> int:
        """What the next round of these streams may hold, `max_round_tokens` at most.

        As long as all of them fit, a round may last until the first deadline, and leaves those that
        wait for their boards a whole token's time; else it is no longer than was reckoned with.
        """
        if not self.held:
            return max_round_tokens
        present = {stream.number for stream in streams}
        ends = [
            held.deadlines.due_at - (0.0 if number in present else held.promise.slo_seconds)
            for number, held in self.held.items()
            if not held.unkept and held.deadlines.due_at is not None
        ]
        if not ends:
            return max_round_tokens
        num_context_tokens = sum([stream.num_tokens for stream in streams])
        spare_seconds = min(ends) - now
        if spare_seconds > self._longest_seconds:
            num_tokens = self._tokens_within(spare_seconds, num_context_tokens)
            if num_tokens >= len(streams):
                return min(num_tokens, max_round_tokens)
        num_tokens = self._tokens_within(self._longest_seconds, num_context_tokens)
        return min(max(num_tokens, 1), max_round_tokens)

    def bounded(self, stream: Stream, grant: Grant, now: float) -> Grant:
        """The grant of a stream that may wait for its board only with time that it has to spare.

        A round may begin without it meanwhile.
        """
        held = self.held.get(stream.number)
        if held is None or held.unkept:
            return grant
        spare_seconds = max(held.deadlines.spare_seconds(now) - self._longest_seconds, 0.0)
        if stream.request.mode == "rejection":  # it waits for the whole draft
            seconds = stream.estimates.speed.answer_seconds(grant.draft_length)
            return grant if latest_arrival_seconds(seconds) <= spare_seconds else NO_DRAFTS
        awaited_seconds = min(grant.awaited_seconds, spare_seconds)
        return Grant(grant.draft_length, grant.window, awaited_seconds)

    def settle(
        self,
        round_: Round,
        outcome: RoundOutcome,
        settled: Iterable[tuple[Stream, Settled]],
        turn_seconds: float,
        now: float,
    ) -> None:
        """A round gave these streams tokens; call it before its streams end.

        `turn_seconds`: what it took, with what usually passes until the next one begins.
        """
        if not self.held:
            return
        if not outcome.num_reruns:
            known = round_.num_tokens, round_.context_tokens, chunks_of(round_)
            self._follow_stretch(self._curve.round_seconds(*known), turn_seconds)
        for stream, result in settled:
            held = self.held.get(stream.number)
            if held is not None:
                num_in_time, num_late = held.deadlines.take(result.num_tokens, now)
                counts = self.counts.setdefault(stream.device, SloCounts())
                counts.num_in_time += num_in_time
                counts.num_late += num_late

    def pause(self, stream: Stream) -> None:
        """Its board is gone: it waits for nothing, and no token is due until it goes on."""
        self.waiting.pop(stream.number, None)
        held = self.held.get(stream.number)
        if held is not None:
            held.deadlines.restart()

    def forget(self, stream: Stream) -> None:
        """It has ended, or goes on at another planner, where it asks anew."""
        self.held.pop(stream.number, None)
        self.waiting.pop(stream.number, None)

    @property
    def holds_any(self) -> bool:
        """Whether anything is promised now."""
        return bool(self._given())

    def reasons(self) -> dict[str, str]:
        """By device, why a stream of it waits for a promise or has none; for any thread."""
        without = {held.device: held.unkept for held in tuple(self.held.values()) if held.unkept}
        return without | {one.device: one.because for one in tuple(self.waiting.values())}

    def _follow_stretch(self, expected_seconds: float, seconds: float) -> None:
        """Up for a longer round, down for others, by steps that balance at the percentile."""
        part = self.settings.percentile / 100.0
        is_longer = seconds > self.stretch * expected_seconds * (1.0 + _ROUNDING)
        step = part if is_longer else part - 1.0
        self.stretch = max(self.stretch + STRETCH_STEP * step, 1.0)

    def _given(self) -> list[Promise]:
        return [held.promise for held in self.held.values() if not held.unkept]

    def _due_at(self, stream: Stream) -> float:
        held = self.held.get(stream.number)
        if held is None or held.unkept or held.deadlines.due_at is None:
            return math.inf
        return held.deadlines.due_at

    def _hold(self, stream: Stream, promise: Promise, unkept: str = "") -> None:
        deadlines = TokenDeadlines(promise.slo_seconds)
        known = stream.device, promise, stream.most_tokens, deadlines
        self.held[stream.number] = _Held(*known, unkept)

    def _takes(self, promise: Promise, most_context: int, now: float) -> bool:
        """Whether another promise can be given beside those that were, which makes it so.

        Rounds of another length than was reckoned with begin when no token is owed.
        """
        promises = [*self._given(), promise]
        known = promises, self._longest_seconds, most_context
        goes_on = len(promises) > 1 and promise.slo_seconds >= self._longest_seconds
        if goes_on and self._can_keep(*known):
            return True
        longest_seconds = min(promises).slo_seconds
        owes = any(
            held.deadlines.due_at is not None
            and held.deadlines.due_at < now + held.promise.slo_seconds - SAME_SECONDS
            for held in self.held.values()
            if not held.unkept
        )
        if owes or not self._can_keep(promises, longest_seconds, most_context):
            return False
        self._longest_seconds = longest_seconds
        return True

    def _can_keep(
        self, promises: Sequence[Promise], longest_seconds: float, most_context: int
    ) -> bool:
        num_tokens = self._tokens_within(longest_seconds, most_context)
        return owed_tokens(promises, longest_seconds) + OTHERS_TOKENS <= num_tokens

    def _tokens_within(self, seconds: float, num_context_tokens: float) -> int:
        """The tokens of the longest round that is over in time; 0: a round of one is not."""
        most_seconds = seconds / self.stretch * (1.0 + _ROUNDING)

        def seconds_of(num_tokens: int) -> float:
            return self._curve.round_seconds(num_tokens, num_context_tokens)

        if seconds_of(1) > most_seconds:
            return 0
        return largest_within(1, self._max_round_tokens, most_seconds, seconds_of)
