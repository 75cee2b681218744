"""The round planner: which streams take part in the next forward pass, and what it did for them.

Pure: `now` is an argument, the target is somebody else's.  The verifier's engine loop, the
tests and the simulator drive the same object: `start_round`, run it, `finish_round`, again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from verifier.cost_curve.curve import CostCurve
from verifier.policies import DraftLengthPolicy
from verifier.rounds.admission import Admission, PrefixSharing
from verifier.rounds.blocks import BlockPool
from verifier.rounds.packing import RoundRoom, pack
from verifier.rounds.prefill import PrefillLimits, prompt_tokens
from verifier.scheduling.schedule import Schedule, ScheduleSettings, schedule
from verifier.streams.estimates import GoodputEstimate
from verifier.streams.stream import Settled, Stream
from verifier.target.round import ItemOutcome, Round, RoundItem, RoundOutcome

# A board that answers ten times later than expected is taken for lost: in `rejection` its stream
# waits for the draft that it was granted, and nothing else but a lost link would end that.
TIMEOUT_FACTOR = 10.0


class RoundSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets about rounds."""

    schedule: ScheduleSettings
    prefill_chunk_tokens: int  # prompt tokens that one round may hold over all streams
    prefill_slowdown_limit: float = 1.0  # by how much prompts may lengthen the round of others
    reserved_output_tokens: int = 256  # room for output that a stream starts with and asks for anew
    prefix_sharing: PrefixSharing = "device"
    draft_timeout_seconds: float
    is_barrier: bool = False  # wait for every granted draft, as the GoodSpeed paper does


class StreamResult(msgspec.Struct, frozen=True):
    """One stream after a round (or its end outside of one)."""

    stream: Stream
    settled: Settled
    failure: str | None = None  # the stream ended with an error instead

    @classmethod
    def ended(cls, stream: Stream, failure: str | None = None) -> StreamResult:
        """The result of a stream that ends without another token."""
        return cls(stream, Settled(stream.position, 0, (), 0), failure)


class RoundPlanner:
    """Plans rounds over the open streams and settles them."""

    def __init__(
        self,
        settings: RoundSettings,
        policy: DraftLengthPolicy,
        curve: CostCurve,
        blocks: BlockPool,
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.curve = curve
        self.blocks = blocks
        self.admission = Admission(
            blocks,
            settings.reserved_output_tokens,
            prefix_sharing=settings.prefix_sharing,
        )
        self.num_draft_timeouts = 0
        self.latest_schedule = Schedule(budget_tokens=0, grants=())
        self._running: frozenset[int] = frozenset()
        self._dropped: set[int] = set()  # to be released when the running round ends
        self._parking: set[int] = set()  # to be parked then
        self._num_rounds = 0
        self._last_finish: float | None = None

    # --- streams come and go -------------------------------------------------------------------

    @property
    def streams(self) -> dict[int, Stream]:
        """The open streams that have a place in the cache, by number."""
        return self.admission.streams

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

    def add(self, stream: Stream) -> None:
        """Take a stream in; it starts when the cache has room for it.

        Raises:
            RequestRefused: it can never fit.
        """
        self.admission.add(stream)

    def cancel(self, stream: Stream) -> StreamResult | None:
        """End a stream; its result, or None when it comes with the end of the running round."""
        stream.is_cancelled = True
        if stream.number in self._running:
            return None
        stream.end("cancelled")
        self._remove(stream.number)
        return StreamResult.ended(stream)

    def drop(self, stream: Stream) -> None:
        """Forget a stream without a result (its connection is gone)."""
        if stream.number in self._running:
            self._dropped.add(stream.number)
        else:
            self._remove(stream.number)

    def park(self, stream: Stream) -> None:
        """Run no more rounds for a stream, but keep its place as long as nobody else needs it."""
        if stream.number in self._running:
            self._parking.add(stream.number)
        else:
            self._park(stream.number)

    def unpark(self, stream: Stream) -> None:
        """Go on with a parked stream."""
        if stream.number in self._parking:
            self._parking.discard(stream.number)
        else:
            self.admission.unpark(stream, self._num_rounds)

    # --- one round -----------------------------------------------------------------------------

    def start_round(self, now: float) -> Round | None:
        """The next round, or None while no stream has work."""
        assert not self._running, "a round is running"
        self.admission.admit(self._num_rounds)
        candidates = [s for s in self.streams.values() if not self._waits(s, now)]
        if self.settings.is_barrier and len(candidates) < len(self.streams):
            return None
        candidates = self.admission.secure(candidates)
        # Of those served last round all the same, those go first whose drafts had no room then.
        candidates.sort(key=lambda stream: (stream.served_round, stream.tested_round))
        items = pack(candidates, self._room(candidates), self.blocks)
        if not items:
            return None
        self._running = frozenset(item.stream for item in items)
        self._num_rounds += 1
        for item in items:
            stream = self.streams[item.stream]
            stream.served_round = self._num_rounds
            if item.draft_check is not None and item.draft_check.draft_token_ids:
                stream.tested_round = self._num_rounds
        return Round(items=tuple(items))

    def finish_round(
        self, round_: Round, outcome: RoundOutcome, round_seconds: float, now: float
    ) -> list[StreamResult]:
        """Commit what the target decided, learn from it, and grant the next drafts."""
        self.curve.observe(round_.num_tokens, round_.context_tokens, round_seconds)
        self._running = frozenset()
        pairs = zip(round_.items, outcome.items, strict=True)
        settled = (self._settle(item, item_outcome) for item, item_outcome in pairs)
        results = [result for result in settled if result is not None]
        self._dropped.clear()
        self._observe_goodput(results, round_seconds, now)
        self._release_finished(results)
        self._park_all()
        self._grant(results, now)
        return results

    def abandon_round(self) -> list[StreamResult]:
        """The target failed: every stream of the running round ends with an error."""
        numbers, self._running = self._running, frozenset()
        results = []
        for number in numbers:
            stream = self.streams[number]
            stream.end("cancelled")
            if number not in self._dropped:
                results.append(StreamResult.ended(stream, "the target model failed"))
            self._remove(number, is_reusable=False)
        self._dropped.clear()
        self._parking.clear()
        return results

    def next_deadline(self) -> float | None:
        """When the longest wait for a board ends, if any stream waits."""
        ends = [self._deadline(s) for s in self.streams.values() if _owes(s)]
        ends += [u for s in self.streams.values() if (u := s.sits_out_until) is not None]
        return min(ends, default=None)

    # --- private -------------------------------------------------------------------------------

    def _waits(self, stream: Stream, now: float) -> bool:
        until = stream.sits_out_until
        if until is not None:
            if now < until:
                return True
            stream.waited_in_vain()
        if not (stream.waits_for_board or (self.settings.is_barrier and _owes(stream))):
            return False
        if now < self._deadline(stream):
            return True
        self.num_draft_timeouts += 1
        stream.board_is_ready = False  # until it is heard of again
        return False

    def _deadline(self, stream: Stream) -> float:
        speed = stream.estimates.speed
        expected = stream.draft_length * (speed.draft_token_seconds or 0.0)
        expected += speed.round_trip_seconds or 0.0
        patience = max(self.settings.draft_timeout_seconds, TIMEOUT_FACTOR * expected)
        return stream.waiting_since + patience

    def _room(self, streams: Sequence[Stream]) -> RoundRoom:
        num_drafts = self._budget_tokens()
        limits = PrefillLimits(
            chunk_tokens=self.settings.prefill_chunk_tokens,
            least_tokens=self.blocks.block_tokens,
            slowdown_limit=self.settings.prefill_slowdown_limit,
        )
        return RoundRoom(
            num_tokens=self.settings.schedule.limits.max_round_tokens,
            num_prompt_tokens=prompt_tokens(streams, num_drafts, self.curve, limits),
            num_drafts=num_drafts,
        )

    def _budget_tokens(self) -> int:
        limits = self.settings.schedule.limits
        if limits.budget_tokens is not None:
            return limits.budget_tokens
        asked_for = sum(
            s.draft_length for s in self.streams.values() if s.request.draft_length is not None
        )
        # At least one: the budget may fall to 0 while a chunk that must be tested is here.
        return max(self.latest_schedule.budget_tokens + asked_for, 1)

    def _settle(self, item: RoundItem, outcome: ItemOutcome | None) -> StreamResult | None:
        """Take in what the round did for one stream; None if there is nothing to tell of it."""
        stream = self.streams[item.stream]
        if item.stream in self._dropped:
            self._remove(item.stream)
            return None
        if outcome is not None and outcome.failure is not None:
            stream.end("cancelled")
            return StreamResult.ended(stream, outcome.failure)
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

    def _observe_goodput(
        self, results: list[StreamResult], round_seconds: float, now: float
    ) -> None:
        """Every open stream learns from every round; one that had no part in it gave 0."""
        # Waiting counts, but not the time before the first stream came.
        elapsed = now - self._last_finish if self._last_finish is not None else round_seconds
        self._last_finish = now
        tokens = {
            result.stream.number: result.settled.num_accepted + len(result.settled.own_token_ids)
            for result in results
        }
        of_devices: dict[GoodputEstimate, int] = {}
        for stream in self.admission.open_streams():
            num_tokens = tokens.get(stream.number, 0)
            stream.estimates.goodput.observe_round(num_tokens, elapsed)
            of_device = stream.device_estimates.goodput
            of_devices[of_device] = of_devices.get(of_device, 0) + num_tokens
        for goodput, num_tokens in of_devices.items():
            goodput.observe_round(num_tokens, elapsed)

    def _release_finished(self, results: list[StreamResult]) -> None:
        for result in results:
            if result.stream.finish is not None:
                self._remove(result.stream.number, is_reusable=result.failure is None)
            else:
                self.blocks.shrink(result.stream.number, result.stream.num_cached_tokens)

    def _grant(self, results: list[StreamResult], now: float) -> None:
        streams = list(self.streams.values())
        if not streams:
            return
        self.latest_schedule = schedule(
            streams, self.policy, self.curve, self.settings.schedule, now
        )
        grants = dict(zip((s.number for s in streams), self.latest_schedule.grants, strict=True))
        for result in results:
            grant = grants.get(result.stream.number)
            if grant is not None:
                result.stream.grant(grant.draft_length, grant.window, now, grant.awaited_seconds)

    def _park_all(self) -> None:
        """Park the streams whose boards were lost during the round, those that go on."""
        for number in self._parking & self.streams.keys():
            self._park(number)
        self._parking.clear()

    def _park(self, number: int) -> None:
        self.admission.park(number)
        self._forget_pace()

    def _remove(self, number: int, *, is_reusable: bool = True) -> None:
        self.admission.remove(number, is_reusable=is_reusable)
        self._forget_pace()

    def _forget_pace(self) -> None:
        """Time without an open stream counts as waiting for none."""
        if next(self.admission.open_streams(), None) is None:
            self._last_finish = None


def _owes(stream: Stream) -> bool:
    """Whether the board was granted a draft and has sent neither that nor a pass."""
    path = stream.path
    return stream.board_is_ready and stream.window > 0 and not path.live and not path.has_passed
