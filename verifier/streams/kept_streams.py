"""What is kept of one device's streams for a while: after their connection, or after their end.

A link may break at any byte: the board comes back for its open streams, and for the last verdict of
those that have ended, which it may never have heard. This module must never read a clock; it hands
open streams back when it keeps them no more, and its owner discards them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from shared.protocol.messages import Finish
from shared.protocol.token_ids import MAX_VOCAB_SIZE, pack_token_ids, unpack_token_list
from verifier.streams.stream import Stream
from verifier.streams.stream_request import StreamRequest


class EndedStream(msgspec.Struct, frozen=True):
    """A stream that has ended: what its board may ask for again, in little room."""

    request: StreamRequest  # without its prompt
    prompt: bytes  # packed ids
    output: bytes
    finish: Finish
    cached_prefix_tokens: int | None
    logprobs: bytes = b""  # packed, of the output, where asked
    prompt_logprobs: bytes = b""  # of the prompt, likewise


class KeptStream(msgspec.Struct, frozen=True):
    """One kept stream, as the board may find it again."""

    stream_id: int
    epoch: int  # of the connection that it had; a later one may take it up
    expires_at: float
    content: Stream | EndedStream

    @property
    def is_open(self) -> bool:
        """Whether it can go on."""
        return isinstance(self.content, Stream) and self.content.finish is None

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The prompt."""
        if isinstance(self.content, EndedStream):
            return _unpack(self.content.prompt)
        return self.content.request.prompt_ids

    @property
    def output_ids(self) -> tuple[int, ...]:
        """All that was committed."""
        if isinstance(self.content, EndedStream):
            return _unpack(self.content.output)
        return tuple(self.content.output_ids)

    @property
    def output_logprobs(self) -> bytes:
        """Of the output, packed, where asked."""
        content = self.content
        return content.logprobs if isinstance(content, EndedStream) else content.logprobs.output

    @property
    def prompt_logprobs(self) -> bytes:
        """Of the prompt, likewise."""
        content = self.content
        if isinstance(content, EndedStream):
            return content.prompt_logprobs
        return content.logprobs.prompt

    def goes_on_from(self, prompt_ids: Sequence[int], committed: Sequence[int]) -> bool:
        """Whether a board with this output means this stream; empty: it knows no prompt yet."""
        if prompt_ids and tuple(prompt_ids) != self.prompt_ids:
            return False
        return self.output_ids[: len(committed)] == tuple(committed)


def summarise(stream: Stream) -> EndedStream:
    """What to keep of a stream that has ended."""
    assert stream.finish is not None, "the stream goes on"
    return EndedStream(
        request=replace(stream.request, prompt_ids=()),
        prompt=pack_token_ids(stream.request.prompt_ids),
        output=pack_token_ids(stream.output_ids),
        finish=stream.finish,
        cached_prefix_tokens=stream.cached_prefix_tokens,
        logprobs=stream.logprobs.output,
        prompt_logprobs=stream.logprobs.prompt,
    )


class KeptStreams:
    """The kept streams of one device, at most `max_streams` of them."""

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self._kept: dict[int, KeptStream] = {}  # by stream id, the longest kept first

    @property
    def num_open(self) -> int:
        """Streams that may go on."""
        return sum(kept.is_open for kept in tuple(self._kept.values()))  # for any thread

    @property
    def num_ended(self) -> int:
        """Streams of which only the answer is kept."""
        return len(self._kept) - self.num_open

    @property
    def next_expiry(self) -> float | None:
        """When the next one's time is over."""
        return min((kept.expires_at for kept in self._kept.values()), default=None)

    def keep(self, kept: KeptStream) -> list[Stream]:
        """Keep a stream; those that had to make room, where they are open.

        One that has ended makes room first, then the one that is kept for longest.
        """
        discarded = self.discard(kept.stream_id)
        self._kept[kept.stream_id] = kept
        if len(self._kept) > self._max_streams:
            ids = (id_ for id_, other in self._kept.items() if not other.is_open)
            discarded += self.discard(next(ids, next(iter(self._kept))))
        return discarded

    def find(self, stream_id: int, epoch: int) -> KeptStream | None:
        """The stream of this name that an earlier connection had; it stays kept."""
        kept = self._kept.get(stream_id)
        return kept if kept is not None and kept.epoch < epoch else None

    def summarise(self, stream_id: int) -> int:
        """Keep the stream of this name in little room, if it has ended; the tokens it took."""
        kept = self._kept.get(stream_id)
        if kept is None or kept.is_open or not isinstance(kept.content, Stream):
            return 0
        num_tokens = kept.content.num_tokens
        self._kept[stream_id] = msgspec.structs.replace(kept, content=summarise(kept.content))
        return num_tokens

    def hand_over(self, kept: KeptStream) -> None:
        """A connection has the stream from now on."""
        del self._kept[kept.stream_id]

    def discard_stream(self, stream: Stream) -> None:
        """Keep an open stream no more that cannot go on, and of which there is nothing to tell."""
        self._kept = {id_: kept for id_, kept in self._kept.items() if kept.content is not stream}

    def discard(self, stream_id: int) -> list[Stream]:
        """Keep the stream of this name no more, if there is one."""
        kept = self._kept.pop(stream_id, None)
        return [] if kept is None else _open_streams([kept])

    def discard_expired(self, now: float) -> list[Stream]:
        """Keep no more those whose time is over."""
        expired = [kept for kept in self._kept.values() if kept.expires_at <= now]
        for kept in expired:
            del self._kept[kept.stream_id]
        return _open_streams(expired)

    def discard_all(self) -> list[Stream]:
        """Keep nothing more."""
        kept, self._kept = self._kept, {}
        return _open_streams(list(kept.values()))


def _open_streams(streams: Sequence[KeptStream]) -> list[Stream]:
    return [kept.content for kept in streams if isinstance(kept.content, Stream)]


def _unpack(token_ids: bytes) -> tuple[int, ...]:
    return tuple(unpack_token_list(token_ids, MAX_VOCAB_SIZE))
