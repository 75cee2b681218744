"""The round planner: which streams take part in the next forward pass, and what it did for them.

Pure: `now` is an argument, the target is the caller's. The verifier's engine loop, the tests and
the simulator drive the same object: `start_round`, run it, `finish_round`, again. `follow_up` holds
what the next round need not wait for; call it while that runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from verifier.cost_curve.curve import CostCurve
from verifier.policies import DraftPolicy, LiveDrafts
from verifier.promises.promises import Promises
from verifier.rounds.admission import Admission
from verifier.rounds.blocks import BlockPool
from verifier.rounds.dear_rows import with_turns_and_prices
from verifier.rounds.joint_limit import draft_room
from verifier.rounds.lessons import Lessons
from verifier.rounds.moves import move_all
from verifier.rounds.packing import RoundRoom, pack
from verifier.rounds.patience import Patience
from verifier.rounds.prefill import prompt_room
from verifier.rounds.prefill_turns import PrefillTurns
from verifier.rounds.quarantine import Quarantine
from verifier.rounds.round_settings import RoundSettings
from verifier.scheduling.draft_plan import NO_PLAN, DraftPlan
from verifier.scheduling.gathered import Read, Reading, gather
from verifier.scheduling.live_drafts import choose_drafts
from verifier.scheduling.measured_payoff import MeasuredPayoff
from verifier.scheduling.rest import let_rest
from verifier.scheduling.schedule import grant_draft, plan_drafts
from verifier.scheduling.schedule_settings import ScheduleSettings
from verifier.streams.drafts_to_test import has_its_masks
from verifier.streams.place import IN_ROUND, Move, Place
from verifier.streams.settled import Settled
from verifier.streams.stream import Stream
from verifier.target.round import ItemFailure, ItemOutcome, Round, RoundItem, RoundOutcome


class StreamResult(NamedTuple):
    """One stream after a round (or its end outside of one)."""

    stream: Stream
    settled: Settled
    failure: ItemFailure | None = None  # the stream ended with an error instead

    @classmethod
    def ended(cls, stream: Stream, failure: ItemFailure | None = None) -> StreamResult:
        """The result of a stream that ends without another token."""
        return cls(stream, Settled(stream.position, 0, (), 0), failure)


class RoundPlanner:
    """Plans rounds over the open streams and settles them."""

    def __init__(
        self,
        settings: RoundSettings,
        policy: DraftPolicy,
        curve: CostCurve,
        blocks: BlockPool,
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.curve = curve
        self.blocks = blocks
        self.patience = Patience(settings.draft_timeout_seconds, is_barrier=settings.is_barrier)
        most_tokens = settings.schedule.limits.max_round_tokens
        self.promises = Promises(settings.slo, curve, most_tokens)
        self.admission = Admission(
            blocks,
            self.patience,
            self.promises,
            settings.reserved_output_tokens,
            prefix_sharing=settings.prefix_sharing,
        )
        self.streams = self.admission.streams  # the open ones that have a place in the cache
        self.draft_plan = NO_PLAN  # the latest one
        self._next_plan: DraftPlan | None = None  # made while the running round runs, for its end
        self.payoff = MeasuredPayoff()
        self._lessons = Lessons(curve, self.payoff)
        self._reading = Reading()
        self._prefill_turns = PrefillTurns()
        self.quarantine = Quarantine()
        self._rows_have_seconds = False  # whether the target says what rows take
        self._running: tuple[Stream, ...] = ()  # that have a part in the running round
        self._num_rounds = 0

    @property
    def queue(self) -> dict[int, Stream]:
        """Streams that wait for room in the cache, in the order in which they will get it."""
        return self.admission.queue

    @property
    def seconds_of_lone_round(self) -> float:
        """T of a round with a token for each open stream and one more, and no drafts."""
        streams = self.streams.values()
        num_context_tokens = sum(stream.num_tokens for stream in streams)
        return self.curve.round_seconds(len(streams) + 1, float(num_context_tokens))

    def replace_policy(self, policy: DraftPolicy, schedule: ScheduleSettings) -> None:
        """Plan by another policy and other settings of draft lengths from the next plan on."""
        self.policy = policy
        self.settings = msgspec.structs.replace(self.settings, schedule=schedule)

    def add(self, stream: Stream) -> None:
        """Take a stream in; it starts when the cache has room for it.

        Raises:
            RequestRefused: it can never fit.
        """
        self.admission.add(stream)

    def cancel(self, stream: Stream) -> StreamResult | None:
        """End a stream with a result; None: that comes with the end of the running round."""
        stream.is_cancelled = True
        if stream.place in IN_ROUND:
            return None
        stream.end("cancelled")
        stream.move(Move.END)
        self._release(stream)
        return StreamResult.ended(stream)

    def discard(self, stream: Stream) -> None:
        """End a stream without a result."""
        stream.move(Move.DISCARD)
        if stream.place is Place.GONE:
            self._release(stream)

    def park(self, stream: Stream) -> None:
        """Run no more rounds for a stream, but keep its place as long as no other needs it."""
        stream.move(Move.PARK)
        if stream.place is Place.PARKED:
            self._park(stream)

    def unpark(self, stream: Stream) -> None:
        """Go on with a parked stream."""
        if stream.place is Place.PARKING:
            stream.move(Move.UNPARK)
        else:
            self.admission.unpark(stream, self._num_rounds)

    def start_round(self, now: float) -> Round | None:
        """The next round, or None while no stream has work."""
        assert not self._running, "a round is running"
        self._reading.forget()
        self.admission.admit(self._num_rounds, now)
        active = self.patience.unpaused(self.streams.values())
        candidates = [
            stream
            for stream in active
            if not self.patience.waits(stream, now)
            and (stream.grammar is None or has_its_masks(stream))
        ]
        if self.settings.is_barrier and len(candidates) < len(active):
            return None
        may_hold = self.draft_plan.holds_rounds and not self.promises.holds_any
        if may_hold and any(stream.sits_out_until is not None for stream in active):
            return None
        candidates = self.admission.secure(self.quarantine.together(candidates), now)
        candidates = self.promises.in_turn(candidates)
        if self._rows_have_seconds:
            known = self.curve, self.settings, self.draft_plan.token_seconds
            candidates = with_turns_and_prices(candidates, *known)
        room = self._room(candidates, now)
        items = pack(candidates, room, self.blocks, self._choose)
        if not items:
            return None
        self._running = tuple([self.streams[item.stream] for item in items])
        move_all(self._running, Move.START_ROUND)
        self._num_rounds += 1
        self._prefill_turns.take(room.prompts.turns, self._num_rounds)
        for item, stream in zip(items, self._running, strict=True):
            stream.served_round = self._num_rounds
            if item.draft_check is not None and item.draft_check.draft_token_ids:
                stream.tested_round = self._num_rounds
        return Round(items=tuple(items))

    def finish_round(
        self, round_: Round, outcome: RoundOutcome, round_seconds: float, now: float
    ) -> list[StreamResult]:
        """Commit what the target decided and grant the next drafts."""
        self._lessons.learn()
        running, self._running = self._running, ()
        move_all(running, Move.FINISH_ROUND)
        self.quarantine.acquit(running)
        if outcome.row_seconds:
            self._rows_have_seconds = True
            for stream, seconds in zip(running, outcome.row_seconds, strict=True):
                if seconds is not None:
                    stream.estimates.observe_row(seconds)
                    stream.device_estimates.observe_row(seconds)
        of_streams = zip(running, round_.items, outcome.items, strict=True)
        settled = [self._settle(*part) for part in of_streams]
        results = [result for result in settled if result is not None]
        parts = [(result.stream, result.settled) for result in results]
        turn_seconds = round_seconds + self._lessons.pace.between_seconds
        self.promises.settle(round_, outcome, parts, turn_seconds, now)
        open_streams = self.admission.open_streams()
        self._lessons.keep(round_, outcome, open_streams, parts, round_seconds, now)
        self._release_finished(results)
        self._park_all(running)
        self._grant(results, now)
        return results

    def follow_up(self, now: float) -> None:
        """Learn from the round that was finished, and plan the drafts that the next end grants.

        Call it when the next round runs, or when there is none. Without it `finish_round` does the
        same, and the round after it waits for that.
        """
        self._lessons.learn()
        if self._running:
            streams = list(self.streams.values())
            self._next_plan = self._plan(now, streams, read=self._reading.gather_again)

    def abandon_round(self, failure: ItemFailure = ItemFailure.EXCEPTION) -> list[StreamResult]:
        """The target failed: every stream of the running round ends with an error."""
        running, self._running = self._running, ()
        results = []
        for stream in running:
            stream.end("cancelled")
            if stream.place is not Place.DISCARDING:
                results.append(StreamResult.ended(stream, failure))
            stream.move(Move.END)
            self._release(stream, is_reusable=False)
        return results

    def give_up_round(self) -> tuple[Stream, ...]:
        """The running round will never be over: its streams, still in it, for `relocation`."""
        running, self._running = self._running, ()
        return running

    def next_deadline(self) -> float | None:
        """When the longest wait for a board ends, if any stream waits, or there is more to do."""
        if self.admission.goes_on:
            return 0.0
        return self.patience.next_deadline((*self.streams.values(), *self.queue.values()))

    def _room(self, streams: Sequence[Stream], now: float) -> RoundRoom:
        limits = self.settings.prefill_limits(self.blocks.block_tokens)
        slowdown_limit = self.settings.schedule.limits.slowdown_limit
        parts = slowdown_limit, limits.device_slowdown_limit, limits.few_tokens
        drafts = draft_room(streams, self._budget_tokens(), self.curve, *parts)
        without_turn = self._prefill_turns.without(self._num_rounds + 1)
        known = limits, without_turn, self._lessons.scored_token_seconds
        most_tokens = self.settings.schedule.limits.max_round_tokens
        return RoundRoom(
            num_tokens=self.promises.most_tokens(streams, now, most_tokens),
            prompts=prompt_room(streams, drafts, self.curve, *known),
            num_drafts=drafts.num_tokens,
        )

    def _choose(
        self, live: LiveDrafts, streams: Sequence[Stream], num_tokens: int
    ) -> Sequence[int]:
        known = self.curve, self.settings.schedule, self._lessons.pace, self._reading.gather
        return choose_drafts(self.policy, live, streams, num_tokens, *known)

    def _budget_tokens(self) -> int:
        fixed_tokens = self.settings.schedule.limits.budget_tokens
        # At least one: the budget may fall to 0 while a chunk that must be tested is here.
        return max(self.draft_plan.budget_tokens, 1) if fixed_tokens is None else fixed_tokens

    def _settle(
        self, stream: Stream, item: RoundItem, outcome: ItemOutcome | None
    ) -> StreamResult | None:
        """Take in what the round did for one stream; None if there is nothing to tell of it."""
        if stream.place is Place.GONE:  # discarded meanwhile
            self._release(stream)
            return None
        if outcome is not None and outcome.failure is not None:
            stream.end("cancelled")
            return StreamResult.ended(stream, outcome.failure)
        if outcome is not None and outcome.prompt_logprobs:
            stream.logprobs.keep_prompt(outcome.prompt_logprobs)
        settled = None
        if item.draft_check is None or outcome is None:
            stream.num_cached_tokens += len(item.token_ids)
        else:
            num_read = len(item.token_ids) - len(item.draft_check.draft_token_ids)
            settled = stream.settle(num_read, item.draft_check, outcome)
        self.admission.has_read(stream)
        if stream.is_cancelled and stream.finish is None:
            stream.end("cancelled")
        if settled is not None:
            return StreamResult(stream, settled)
        return StreamResult.ended(stream) if stream.is_cancelled else None

    def _release_finished(self, results: list[StreamResult]) -> None:
        for result in results:
            if result.stream.finish is not None:
                result.stream.move(Move.END)
                self._release(result.stream, is_reusable=result.failure is None)
            else:
                self.blocks.shrink(result.stream.number, result.stream.num_cached_tokens)

    def _plan(
        self, now: float, streams: list[Stream], beside: DraftPlan = NO_PLAN, read: Read = gather
    ) -> DraftPlan:
        known = streams, self.policy, self.curve, self.settings.schedule, now
        sentence = self.payoff.rest_sentence if self.settings.schedule.measures_payoff else None
        pace = self._lessons.pace
        return plan_drafts(*known, beside=beside, pace=pace, rest_sentence=sentence, read=read)

    def _grant(self, results: Sequence[StreamResult], now: float) -> None:
        plan, self._next_plan = self._next_plan, None
        if plan is None:
            self._lessons.learn()
            plan = self._plan(now, list(self.streams.values()))
        streams = [r.stream for r in results if r.stream.number in self.streams]
        let_rest(streams, plan)
        newcomers = [
            s for s in streams if s.number not in plan.streams and s.can_draft and not s.rests
        ]
        if newcomers:  # their boards became ready during the round
            plan = self._plan(now, newcomers, plan)
        self.draft_plan = plan
        for stream in streams:
            grant = grant_draft(stream, plan, self.settings.schedule)
            if self.promises.held:
                grant = self.promises.bounded(stream, grant, now)
            stream.grant(grant.draft_length, grant.window, now, grant.awaited_seconds)

    def _park_all(self, streams: Sequence[Stream]) -> None:
        """Park the streams whose boards were lost during the round, those that go on."""
        for stream in streams:
            if stream.place is Place.PARKED:
                self._park(stream)

    def _park(self, stream: Stream) -> None:
        self.admission.park(stream)
        self.promises.pause(stream)
        self._forget_pace()

    def _release(self, stream: Stream, *, is_reusable: bool = True) -> None:
        self.quarantine.acquit((stream,))
        self.admission.discard(stream, is_reusable=is_reusable)
        self._forget_pace()

    def _forget_pace(self) -> None:
        if next(self.admission.open_streams(), None) is None:
            self._lessons.forget_pace()
