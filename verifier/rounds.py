"""The round planner: which streams take part in the next forward pass, and what it did for them.

Pure: `now` is an argument, the target is somebody else's.  The verifier's engine loop, the
tests and the simulator drive the same object: `start_round`, run it, `finish_round`, again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shared.errors import OutOfCache, RequestRefused
from verifier.blocks import BlockPool
from verifier.cost_curve import CostCurve
from verifier.policies import DraftLengthPolicy
from verifier.scheduling import Schedule, ScheduleSettings, schedule
from verifier.streams import Settled, Stream
from verifier.target import Round, RoundItem, RoundOutcome

# A board that answers ten times later than expected is taken for lost (design.md §3).
TIMEOUT_FACTOR = 10.0


class RoundSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets about rounds."""

    schedule: ScheduleSettings
    prefill_chunk_tokens: int  # prompt tokens that one round may hold over all streams
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
        self.streams: dict[int, Stream] = {}  # admitted, open
        self.queue: dict[int, Stream] = {}  # waiting for room in the cache, oldest first
        self.num_draft_timeouts = 0
        self.latest_schedule = Schedule(budget_tokens=0, grants=())
        self._running: frozenset[int] = frozenset()
        self._dropped: set[int] = set()  # to be released when the running round ends
        self._num_rounds = 0
        self._last_finish: float | None = None

    # --- streams come and go -------------------------------------------------------------------

    def add(self, stream: Stream) -> None:
        """Take a stream in; it starts when the cache has room for all that it may become.

        Raises:
            RequestRefused: it can never fit.
        """
        capacity = self.blocks.num_blocks * self.blocks.block_tokens
        if self._tokens_to_reserve(stream) > capacity:
            raise RequestRefused(
                f"{self._tokens_to_reserve(stream)} tokens exceed the cache of {capacity}",
                "max_tokens",
            )
        self.queue[stream.number] = stream

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

    # --- one round -----------------------------------------------------------------------------

    def start_round(self, now: float) -> Round | None:
        """The next round, or None while no stream has work."""
        assert not self._running, "a round is running"
        self._admit()
        candidates = [s for s in self.streams.values() if not self._waits(s, now)]
        if self.settings.is_barrier and len(candidates) < len(self.streams):
            return None
        # Of those served last round all the same, those go first whose drafts had no room then.
        candidates.sort(key=lambda stream: (stream.served_round, stream.tested_round))
        items = self._pack(candidates)
        if not items:
            return None
        self._running = frozenset(item.stream for item in items)
        self._num_rounds += 1
        for item in items:
            stream = self.streams[item.stream]
            stream.served_round = self._num_rounds
            if item.verify is not None and item.verify.draft_token_ids:
                stream.tested_round = self._num_rounds
        return Round(items=tuple(items))

    def finish_round(
        self, round_: Round, outcome: RoundOutcome, round_seconds: float, now: float
    ) -> list[StreamResult]:
        """Commit what the target decided, learn from it, and grant the next drafts."""
        self.curve.observe(round_.num_tokens, round_.context_tokens, round_seconds)
        self._running = frozenset()
        results = []
        for item, item_outcome in zip(round_.items, outcome.items, strict=True):
            stream = self.streams[item.stream]
            if item.stream in self._dropped:
                self._remove(item.stream)
            elif item.verify is None or item_outcome is None:
                stream.num_cached_tokens += len(item.token_ids)
                results += self._cancelled(stream)
            elif item_outcome.failure is not None:
                stream.end("cancelled")
                results.append(StreamResult.ended(stream, item_outcome.failure))
            else:
                num_read = len(item.token_ids) - len(item.verify.draft_token_ids)
                settled = stream.settle(num_read, item.verify, item_outcome)
                if stream.is_cancelled and stream.finish is None:
                    stream.end("cancelled")
                results.append(StreamResult(stream, settled))
        self._dropped.clear()
        self._observe_goodput(results, round_seconds, now)
        self._release_finished(results)
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
            self._remove(number)
        self._dropped.clear()
        return results

    def next_deadline(self) -> float | None:
        """When the longest wait for a board ends, if any stream waits."""
        return min((self._deadline(s) for s in self.streams.values() if _owes(s)), default=None)

    # --- private -------------------------------------------------------------------------------

    def _admit(self) -> None:
        for stream in list(self.queue.values()):
            try:
                self.blocks.reserve(stream.number, self._tokens_to_reserve(stream))
            except OutOfCache:
                return  # first come, first served: a long one is not overtaken forever
            del self.queue[stream.number]
            self.streams[stream.number] = stream
            stream.served_round = self._num_rounds  # behind all who wait for a turn already

    def _tokens_to_reserve(self, stream: Stream) -> int:
        # A draft never reaches beyond the last output token.
        return len(stream.request.prompt_ids) + stream.request.max_output_tokens

    def _waits(self, stream: Stream, now: float) -> bool:
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

    def _pack(self, streams: Iterable[Stream]) -> list[RoundItem]:
        """Oldest first: everybody's next tokens, prompts in chunks; then drafts in what is left."""
        tokens_left = self.settings.schedule.limits.max_round_tokens
        prefill_left = self.settings.prefill_chunk_tokens
        drafts_left = self._budget_tokens()
        parts = []
        for stream in streams:
            is_prefill = stream.num_pending_tokens > 1
            num_read = min(stream.num_pending_tokens, tokens_left)
            if is_prefill:
                num_read = min(num_read, prefill_left)
            num_owed = int(stream.must_be_tested)  # drafts that it cannot go on without
            if num_read == 0 or num_owed > min(tokens_left - num_read, drafts_left):
                continue
            parts.append((stream, num_read, num_owed))
            tokens_left -= num_read + num_owed
            drafts_left -= num_owed
            prefill_left -= num_read if is_prefill else 0
        items = []
        for stream, num_read, num_owed in parts:
            item = self._item(stream, num_read, num_owed + min(drafts_left, tokens_left))
            items.append(item)
            num_more = len(item.token_ids) - num_read - num_owed
            tokens_left -= num_more
            drafts_left -= num_more
        return items

    def _budget_tokens(self) -> int:
        limits = self.settings.schedule.limits
        if limits.budget_tokens is not None:
            return limits.budget_tokens
        asked_for = sum(
            s.draft_length for s in self.streams.values() if s.request.draft_length is not None
        )
        # At least one: the budget may fall to 0 while a chunk that must be tested is here.
        return max(self.latest_schedule.budget_tokens + asked_for, 1)

    def _item(self, stream: Stream, num_read: int, max_drafts: int) -> RoundItem:
        token_ids = stream.tokens_from_cache_on(num_read)
        verify = None
        if num_read == stream.num_pending_tokens:
            verify = stream.verify(*stream.testable(max_drafts))
            token_ids += verify.draft_token_ids
        num_cached = stream.num_cached_tokens
        table = self.blocks.grow(stream.number, num_cached + len(token_ids))
        return RoundItem(
            stream=stream.number,
            token_ids=token_ids,
            num_cached_tokens=num_cached,
            block_table=table,
            verify=verify,
        )

    def _cancelled(self, stream: Stream) -> list[StreamResult]:
        if not stream.is_cancelled:
            return []
        stream.end("cancelled")
        return [StreamResult.ended(stream)]

    def _observe_goodput(
        self, results: list[StreamResult], round_seconds: float, now: float
    ) -> None:
        """Every open stream learns from every round; one that had no part in it gave 0."""
        # Waiting counts, but not the time before the first stream came.
        elapsed = now - self._last_finish if self._last_finish is not None else round_seconds
        self._last_finish = now
        tokens = {
            result.stream.number: result.settled.num_accepted + len(result.settled.token_ids)
            for result in results
        }
        devices: dict[str, tuple[Stream, int]] = {}
        for stream in self.streams.values():
            num_tokens = tokens.get(stream.number, 0)
            stream.estimates.goodput.observe_round(num_tokens, elapsed)
            devices[stream.device] = (
                stream,
                devices.get(stream.device, (stream, 0))[1] + num_tokens,
            )
        for stream, num_tokens in devices.values():
            stream.device_estimates.goodput.observe_round(num_tokens, elapsed)

    def _release_finished(self, results: list[StreamResult]) -> None:
        for result in results:
            if result.stream.finish is not None:
                self._remove(result.stream.number)
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
                result.stream.grant(grant.draft_length, grant.window, now)

    def _remove(self, number: int) -> None:
        self.queue.pop(number, None)
        if self.streams.pop(number, None) is not None:
            self.blocks.release(number)
        if not self.streams:
            self._last_finish = None


def _owes(stream: Stream) -> bool:
    """Whether the board was granted a draft and has sent neither that nor a pass."""
    path = stream.path
    return stream.board_is_ready and stream.window > 0 and not path.live and not path.has_passed
