"""Which streams have a place in the cache, and which wait for one.

A stream starts with room for its tokens and a modest part of its output, and raises that as it
grows. When it cannot, the stream that was admitted last loses its place: it goes to the front of
the queue, keeps all that it is, and reads its tokens anew when there is room again.

A stream whose board is gone is parked: it keeps its blocks for the time being, and loses them
before anybody waits for room. Back from there it stands behind all who were admitted meanwhile.

Every stream comes to its end. The one that was admitted first never loses its place: only the last
one does, and alone it has the whole cache, in which it fits (`add` refuses others). So it gets on
and ends; then the next one is the first. A stream that waits is admitted at the latest when all
before it have ended, and no stream overtakes it.

This module must never decide what a round holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from shared.errors import OutOfCache, RequestRefused
from verifier.rounds.blocks import BlockPool
from verifier.rounds.prefix_names import following_names, root_name
from verifier.streams.place import Move, Place
from verifier.streams.stream import Stream

# To hash 128,000 tokens takes 12 ms (one core, 2026-11), which is for nothing where none are found.
_NAMES_AT_ONCE = 256

PrefixSharing = Literal["off", "device", "all"]


class Admission:
    """The open streams, admitted or not, and what they hold of the cache."""

    def __init__(
        self, blocks: BlockPool, reserved_output_tokens: int, *, prefix_sharing: PrefixSharing
    ) -> None:
        self.blocks = blocks
        self.streams: dict[int, Stream] = {}  # admitted, in that order
        self.queue: dict[int, Stream] = {}  # waiting for room, those who had a place before first
        self.parked: dict[int, Stream] = {}  # that no board asks for now, the longest parked first
        self.num_preemptions = 0
        self.num_prefix_query_tokens = 0  # of all streams that were admitted
        self.num_prefix_hit_tokens = 0  # of those, that were in the cache already
        self._reserved_output_tokens = reserved_output_tokens
        self._prefix_sharing = prefix_sharing
        self._names: dict[int, list[bytes]] = {}  # a root, then names of each stream's full blocks

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
        self._names[stream.number] = [root_name(self._owner(stream))]
        self.queue[stream.number] = stream

    def discard(self, stream: Stream, *, is_reusable: bool = True) -> None:
        """Hold nothing more for a stream that is gone, if anything was held.

        Not `is_reusable`: no other stream may start with what it has read.
        """
        assert stream.place is Place.GONE, "only a stream that is gone loses everything"
        number = stream.number
        self._names.pop(number, None)
        self.queue.pop(number, None)
        self.streams.pop(number, None)
        self.parked.pop(number, None)
        if self.blocks.holds(number):
            self.blocks.release(number, is_reusable=is_reusable)

    def park(self, stream: Stream) -> None:
        """Leave a stream out that is parked; its blocks stay its own until another needs them."""
        assert stream.place is Place.PARKED
        in_one = self.streams if stream.number in self.streams else self.queue
        self.parked[stream.number] = in_one.pop(stream.number)

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

    def admit(self, round_number: int) -> None:
        """Let waiting streams start, as far as there is room."""
        while self.queue:
            # First come, first served: a long one is not overtaken forever.
            number, stream = next(iter(self.queue.items()))
            if not self._has_started(stream):
                return
            del self.queue[number]
            self.streams[number] = stream
            stream.move(Move.ADMIT)
            stream.served_round = round_number  # behind all who wait for a turn already

    def secure(self, candidates: Sequence[Stream]) -> list[Stream]:
        """Make room for the next round of these streams; returns those that keep their place.

        `candidates` stand in the order of their admission, so that none of them loses its place to
        a later one.
        """
        for stream in candidates:
            if stream.number in self.streams:
                self._make_room(stream)
        return [stream for stream in candidates if stream.number in self.streams]

    def has_read(self, stream: Stream) -> None:
        """Let others use the blocks that the stream's committed tokens have filled."""
        num_full = stream.num_cached_tokens // self.blocks.block_tokens
        if num_full > self.blocks.num_named_blocks(stream.number):
            self.blocks.share(stream.number, self._block_names(stream, num_full))

    def _owner(self, stream: Stream) -> str:
        """Who may begin with the stream's blocks: every stream of the same owner.

        Among all devices, the time to a first token tells that another one sent the same prompt.
        """
        match self._prefix_sharing:
            case "all":
                return "all"
            case "device":
                return f"device {stream.device}"
            case "off":  # itself, when it has to read its tokens anew
                return f"stream {stream.number}"

    def _has_started(self, stream: Stream) -> bool:
        """Reserve blocks for a waiting stream, if there are enough."""
        num_tokens = self._tokens_ahead(stream)
        # The last token is always read: its logits are needed, and only full blocks are shared.
        num_full = (stream.num_tokens - 1) // self.blocks.block_tokens
        shared = self.blocks.find(self._names_to_find(stream, num_full), num_tokens)
        if not self._is_reserved(stream, num_tokens, shared):
            return False
        stream.start_from_cache(len(shared) * self.blocks.block_tokens)
        self.num_prefix_query_tokens += stream.num_tokens
        self.num_prefix_hit_tokens += stream.num_cached_tokens
        return True

    def _make_room(self, stream: Stream) -> None:
        """Raise the stream's reservation; drafts take no stream's place, the target's tokens do."""
        num_reserved = self.blocks.num_reserved_tokens(stream.number)
        if stream.num_tokens + len(stream.path.live) <= num_reserved:
            return
        num_needed = stream.num_tokens + int(stream.must_be_tested)
        while not self._is_reserved(stream, self._tokens_ahead(stream)):
            if num_needed <= num_reserved or self._is_reserved(stream, num_needed):
                return
            last = next(reversed(self.streams.values()))
            self._preempt(last)
            if last is stream:
                return

    def _preempt(self, stream: Stream) -> None:
        del self.streams[stream.number]
        self.blocks.release(stream.number)
        stream.num_cached_tokens = 0
        stream.move(Move.PREEMPT)
        self.queue = {stream.number: stream, **self.queue}
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

    def _names_to_find(self, stream: Stream, num_blocks: int) -> list[bytes]:
        """Names of the stream's first blocks, as many as it may find."""
        names: list[bytes] = []
        for start in range(0, num_blocks, _NAMES_AT_ONCE):
            names = self._block_names(stream, min(start + _NAMES_AT_ONCE, num_blocks))
            if not self.blocks.has_named(names[-1]):
                break
        return names

    def _block_names(self, stream: Stream, num_blocks: int) -> list[bytes]:
        """Names of the stream's first blocks, whose tokens are committed."""
        names, size = self._names[stream.number], self.blocks.block_tokens
        if len(names) <= num_blocks:
            token_ids = stream.tokens((len(names) - 1) * size, num_blocks * size)
            names += following_names(names[-1], token_ids, size)
        return names[1 : num_blocks + 1]
