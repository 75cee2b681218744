"""Which streams have a place in the cache, and which wait for one.

A stream starts with room for its tokens and a modest part of its output, and raises that as it
grows. When there is none, another loses its place (`verifier.rounds.shares`): first one of the
device that is furthest beyond its share of the cache, and of its streams one whose board has long
owed a draft. Where no device is beyond its share, the stream that was admitted last. Who lost its
place goes to the front of the queue, keeps all that it is, and reads its tokens anew when there is
room again.

A stream that waits takes what is free, and the room of devices beyond their share as long as its
own is within: first come, first served, but a device beyond its share stands behind the others.

A stream whose board is gone is parked: it keeps its blocks for the time being, and loses them
before any stream waits for room. Back from there it stands behind all who were admitted meanwhile.

Every stream whose board answers comes to its end. Of those that have a place, the one that was
admitted first never loses it: neither a device's first stream nor the first of all is ever the
last one, and alone it has the whole cache, in which it fits (`add` refuses others). So it gets on
and ends; then the next one is the first. A stream whose device has no other is within its share
and is overtaken only by streams that waited before it, so it is admitted at the latest when all
before it have ended; and when the others of its device have ended, every stream is such a one.
Who lost its place beyond the share stays beyond until then, so that none takes it back and forth.
A stream that loses its place because its board owes a draft is admitted again when that is here,
or when the wait is over: it gets a token out of every place.

A stream that is promised a token in time (`verifier.promises`) waits until that breaks no promise.

This module must never decide what a round holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from shared.errors import OutOfCache, RequestRefused
from verifier.promises.promises import Promises
from verifier.rounds.blocks import BlockPool
from verifier.rounds.patience import Patience
from verifier.rounds.prefix_names import PrefixSharing, StreamNames
from verifier.rounds.shares import CacheShares
from verifier.streams.place import Move, Place
from verifier.streams.stream import Stream

# To hash 128,000 tokens takes 12 ms (one core, 2026-11), which is for nothing where none are found.
_NAMES_AT_ONCE = 256
# `admit` stands on the event loop, and many long prompts may wait at once.
_TOKENS_NAMED_AT_ONCE = 1 << 16


class _Waiting(NamedTuple):
    """A device's first stream in the queue, in the order of their turns."""

    is_beyond_share: bool
    rank: int  # in the queue
    stream: Stream


class Admission:
    """The open streams, admitted or not, and what they hold of the cache."""

    def __init__(
        self,
        blocks: BlockPool,
        patience: Patience,
        promises: Promises,
        reserved_output_tokens: int,
        *,
        prefix_sharing: PrefixSharing,
    ) -> None:
        self.blocks = blocks
        self.streams: dict[int, Stream] = {}  # admitted, in that order
        self.queue: dict[int, Stream] = {}  # waiting for room, those who had a place before first
        self.parked: dict[int, Stream] = {}  # that no board asks for now, the longest parked first
        self.goes_on = False  # `admit` has more to do and should be called again soon
        self.num_preemptions = 0
        self.num_prefix_query_tokens = 0  # of all streams that were admitted
        self.num_prefix_hit_tokens = 0  # of those, that were in the cache already
        self._patience, self._promises = patience, promises
        self._queued_at: dict[int, float] = {}  # since when each in the queue waits for room
        self._reserved_output_tokens = reserved_output_tokens
        self.names = StreamNames(prefix_sharing)
        self._num_tokens_to_name = 0  # at most, in this call of `admit`

    def add(self, stream: Stream) -> None:
        """Put a stream into the queue.

        Raises:
            RequestRefused: it can never fit.
        """
        capacity = self.blocks.num_blocks * self.blocks.block_tokens
        if stream.most_tokens > capacity:
            raise RequestRefused(
                f"{stream.most_tokens} tokens exceed the cache of {capacity}", "max_tokens"
            )
        stream.move(Move.ADD)
        num_full = min(stream.num_tokens // self.blocks.block_tokens, _NAMES_AT_ONCE)
        self._block_names(stream, num_full)  # now: when it is admitted, a round waits
        self.queue[stream.number] = stream

    def discard(self, stream: Stream, *, is_reusable: bool = True) -> None:
        """Hold nothing more for a stream that is gone, if anything was held.

        Not `is_reusable`: no other stream may start with what it has read.
        """
        assert stream.place is Place.GONE, "only a stream that is gone loses everything"
        for held in (self.queue, self._queued_at, self.streams, self.parked):
            held.pop(stream.number, None)
        self._forget(stream)
        if self.blocks.holds(stream.number):
            self.blocks.release(stream.number, is_reusable=is_reusable)

    def lose_cache(self, blocks: BlockPool, now: float) -> None:
        """Every stream loses its place; `blocks` are those of another cache, which is empty."""
        shares = self._shares()
        for stream in reversed(tuple(self.streams.values())):
            self._preempt(stream, shares, now)
        while self._reclaim():
            pass
        self.blocks = blocks

    def give_away(self, stream: Stream, now: float) -> None:
        """Hold nothing more for a stream that goes on at another cache."""
        if stream.number in self.streams:
            self._preempt(stream, self._shares(), now)
        elif self.blocks.holds(stream.number):
            self.blocks.release(stream.number)
            stream.num_cached_tokens = 0
        for held in (self.queue, self._queued_at, self.parked):
            held.pop(stream.number, None)
        self._forget(stream)

    def take_over(self, stream: Stream) -> None:
        """Go on with a stream of another cache, before all that wait here if it had begun."""
        stream.served_round = stream.tested_round = 0
        if stream.place is Place.PARKED:
            self.parked[stream.number] = stream
        elif stream.place is Place.PREEMPTED:
            self.queue = {stream.number: stream, **self.queue}
        else:
            self.queue[stream.number] = stream

    def park(self, stream: Stream) -> None:
        """Leave a stream out that is parked; its blocks stay its own until another needs them."""
        assert stream.place is Place.PARKED
        in_one = self.streams if stream.number in self.streams else self.queue
        self.parked[stream.number] = in_one.pop(stream.number)
        self._queued_at.pop(stream.number, None)

    def unpark(self, stream: Stream, round_number: int) -> None:
        """Give a parked stream its place back, or a place in the queue if its blocks are gone."""
        keeps_blocks = self.blocks.holds(stream.number)
        stream.move(Move.UNPARK if keeps_blocks else Move.REQUEUE)
        del self.parked[stream.number]
        if keeps_blocks:
            self.streams[stream.number] = stream
            stream.served_round = round_number
        else:
            self.queue[stream.number] = stream

    def open_streams(self) -> Iterator[Stream]:
        """All streams that were admitted once."""
        yield from self.streams.values()
        for stream in self.queue.values():
            if stream.place is not Place.PREEMPTED:
                return  # these are first in the queue
            yield stream

    def held_blocks(self) -> dict[str, int]:
        """What each device with a place holds of the cache, in blocks; for any thread."""
        return CacheShares(self.blocks, tuple(self.streams.values()), ()).num_held_blocks

    def waiting_seconds(self, now: float) -> dict[str, float]:
        """For how long the longest waiting stream of each device waits for room; for any thread."""
        longest: dict[str, float] = {}
        for number, stream in tuple(self.queue.items()):
            seconds = now - self._queued_at.get(number, now)
            longest[stream.device] = max(longest.get(stream.device, 0.0), seconds)
        return longest

    def admit(self, round_number: int, now: float) -> None:
        """Let waiting streams start, as far as there is room or others must make some.

        It may leave some of the work for the next call, and says so in `goes_on`.
        """
        self.goes_on, self._num_tokens_to_name = False, _TOKENS_NAMED_AT_ONCE
        if not self.queue:
            return
        for number in self.queue:
            self._queued_at.setdefault(number, now)
        shares = self._shares()
        lines = self._lines(now)
        turns = [self._turn(line[0], shares) for line in lines.values()]
        heapify(turns)
        while turns:
            # A long one is not overtaken forever: who finds no room holds up all behind it.
            turn = heappop(turns)
            if not self._has_started(turn, shares, now):
                return
            self._admit(turn.stream, round_number)
            line = lines[turn.stream.device]
            del line[0]
            if line:
                heappush(turns, self._turn(line[0], shares))

    def secure(self, candidates: Sequence[Stream], now: float) -> list[Stream]:
        """Make room for the next round of these streams; returns those that keep their place.

        `candidates` stand in the order of their admission, so that of one device, and where all
        devices are within their shares, none of them loses its place to a later one.
        """
        for stream in candidates:
            if stream.number in self.streams:
                self._make_room(stream, now)
        return [stream for stream in candidates if stream.number in self.streams]

    def has_read(self, stream: Stream) -> None:
        """Let others use the blocks that the stream's committed tokens have filled."""
        num_full = stream.num_cached_tokens // self.blocks.block_tokens
        if num_full > self.blocks.num_named_blocks(stream.number):
            self.blocks.share(stream.number, self._block_names(stream, num_full))

    def _shares(self) -> CacheShares:
        return CacheShares(self.blocks, self.streams.values(), self.queue.values())

    def _lines(self, now: float) -> dict[str, list[tuple[int, Stream]]]:
        """The queue by device, but for those that could do nothing with a place, or not yet may."""
        lines: dict[str, list[tuple[int, Stream]]] = {}
        able = [s for s in self.queue.values() if not self._patience.waits(s, now)]
        left_out = self._promises.let_in(able, self.streams.values(), now)
        for rank, stream in enumerate(able):
            if stream.number not in left_out:
                lines.setdefault(stream.device, []).append((rank, stream))
        return lines

    def _turn(self, first: tuple[int, Stream], shares: CacheShares) -> _Waiting:
        rank, stream = first
        num_blocks = self.blocks.num_blocks_for(self._tokens_ahead(stream))
        return _Waiting(not shares.is_entitled(stream.device, num_blocks), rank, stream)

    def _admit(self, stream: Stream, round_number: int) -> None:
        del self.queue[stream.number]
        del self._queued_at[stream.number]
        self.streams[stream.number] = stream
        stream.move(Move.ADMIT)
        stream.served_round = round_number  # behind all who wait for a turn already

    def _has_started(self, turn: _Waiting, shares: CacheShares, now: float) -> bool:
        """Reserve blocks for a waiting stream, if there are enough."""
        stream = turn.stream
        num_tokens = self._tokens_ahead(stream)
        num_full = stream.most_cached_tokens // self.blocks.block_tokens  # only those are shared
        names = self._names_to_find(stream, num_full)
        if names is None:
            self.goes_on = True
            return False
        shared = self.blocks.find(names, num_tokens)
        while not self._is_reserved(stream, num_tokens, shared):
            if turn.is_beyond_share or (last := self._last(stream, shares, now)) is None:
                return False
            self._preempt(last, shares, now)
        shares.take(stream, self.blocks.num_held_blocks(stream.number))
        stream.start_from_cache(len(shared) * self.blocks.block_tokens)
        self.num_prefix_query_tokens += stream.num_tokens
        self.num_prefix_hit_tokens += stream.num_cached_tokens
        return True

    def _make_room(self, stream: Stream, now: float) -> None:
        """Raise the stream's reservation; drafts take no stream's place, the target's tokens do."""
        num_reserved = self.blocks.num_reserved_tokens(stream.number)
        if stream.num_tokens + len(stream.path.live) <= num_reserved:
            return
        num_needed = stream.num_tokens + int(stream.must_be_tested)
        shares: CacheShares | None = None
        while not self._is_reserved(stream, self._tokens_ahead(stream)):
            if num_needed <= num_reserved or self._is_reserved(stream, num_needed):
                return
            if shares is None:
                shares = self._shares()
                num_more = self.blocks.num_blocks_for(num_needed - num_reserved)
                shares.grow(stream, num_more)
            last = self._last(stream, shares, now) or next(reversed(self.streams.values()))
            self._preempt(last, shares, now)
            if last is stream:
                return

    def _last(self, stream: Stream, shares: CacheShares, now: float) -> Stream | None:
        """Who loses its place to a stream, if a device is beyond its share or a board is idle."""
        return shares.who_gives_way(
            stream.device,
            tuple(self.streams.values()),
            lambda other: other is not stream and self._patience.is_idle(other, now),
        )

    def _preempt(self, stream: Stream, shares: CacheShares, now: float) -> None:
        shares.give(stream, self.blocks.num_held_blocks(stream.number))
        del self.streams[stream.number]
        self.blocks.release(stream.number)
        stream.num_cached_tokens = 0
        stream.move(Move.PREEMPT)
        self.queue = {stream.number: stream, **self.queue}
        self._queued_at[stream.number] = now
        self.num_preemptions += 1

    def _tokens_ahead(self, stream: Stream) -> int:
        """What the stream may grow to before it asks again."""
        num_more = max(self._reserved_output_tokens, len(stream.path.live) + 1)
        num_whole = stream.num_tokens + stream.num_missing_tokens
        return min(num_whole + num_more, stream.most_tokens)

    def _is_reserved(self, stream: Stream, num_tokens: int, shared: tuple[int, ...] = ()) -> bool:
        while True:
            try:
                self.blocks.reserve(stream.number, num_tokens, shared, stream.most_tokens)
            except OutOfCache:
                if not self._reclaim():
                    return False
            else:
                return True

    def _reclaim(self) -> bool:
        """Take the blocks of the stream that is parked for longest; False if none has any."""
        for stream in self.parked.values():
            if self.blocks.holds(stream.number):
                self.blocks.release(stream.number)
                stream.num_cached_tokens = 0
                return True
        return False

    def _names_to_find(self, stream: Stream, num_blocks: int) -> list[bytes] | None:
        """Names of the stream's first blocks, as many as it may find; None: not all are made."""
        names: list[bytes] = []
        for start in range(0, num_blocks, _NAMES_AT_ONCE):
            end = min(start + _NAMES_AT_ONCE, num_blocks)
            num_new = self.names.num_unmade(stream, end)
            if num_new and self._num_tokens_to_name <= 0:
                return None
            self._num_tokens_to_name -= num_new * self.blocks.block_tokens
            names = self._block_names(stream, end)
            if not self.blocks.has_named(names[-1]):
                break
        return names

    def _block_names(self, stream: Stream, num_blocks: int) -> list[bytes]:
        return self.names.of_blocks(stream, num_blocks, self.blocks.block_tokens)

    def _forget(self, stream: Stream) -> None:
        self.names.forget(stream)
        self._promises.forget(stream)
