"""What a worker knows of streams is what its verifier believes that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from verifier.streams.token_census import TokenCensus
from verifier.target.processing import SeenTokens
from verifier.workers import known_streams
from verifier.workers.known_streams import ReadStreams, SentStreams
from verifier.workers.messages import WireSeen

VOCAB_SIZE = 200_000
steps = st.tuples(
    st.integers(0, 3),  # stream
    st.lists(st.integers(0, 9), max_size=4),  # what it writes
    st.lists(st.integers(0, 11), max_size=4),  # and drafts
    st.booleans(),  # another text begins there
)


def arrived(read: ReadStreams, stream: int, wire: WireSeen, num_drafts: int) -> SeenTokens:
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(wire), type=WireSeen)
    return read.seen(stream, sent, num_drafts, VOCAB_SIZE)


def listed(seen: SeenTokens) -> list[Any]:
    return [
        (array.dtype.name, array.tolist())
        for array in (seen.token_ids, seen.num_written, seen.draft_places)
    ]


def play(some: Sequence[tuple[int, list[int], list[int], bool]]) -> None:
    sent, read = SentStreams(), ReadStreams(num_blocks=1)
    censuses: dict[int, TokenCensus] = {}
    for stream, written, drafts, is_new in some:
        if is_new or stream not in censuses:
            censuses[stream] = TokenCensus()
        for token_id in written:
            censuses[stream].write(token_id)
        seen = censuses[stream].seen(drafts)
        assert listed(seen) == listed(
            arrived(read, stream, sent.new_seen(stream, seen), len(drafts))
        )


@given(st.lists(steps, max_size=20))
def test_what_streams_have_seen_arrives_whole(
    some: list[tuple[int, list[int], list[int], bool]],
) -> None:
    play(some)


@given(st.lists(steps, max_size=20))
def test_both_ends_forget_the_same(some: list[tuple[int, list[int], list[int], bool]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_streams, "MAX_KNOWN_TOKENS", 8)
        play(some)


def test_of_a_long_text_only_what_is_new_is_sent() -> None:
    sent, census = SentStreams(), TokenCensus()
    census.read(range(128_000))
    first = sent.new_seen(1, census.seen(()))
    assert len(msgspec.msgpack.encode(first)) > 1_000_000
    for token_id in (5, 5, 150_000, 7):
        census.write(token_id)
    second = sent.new_seen(1, census.seen((5, 150_001)))
    assert len(msgspec.msgpack.encode(second)) < 60


@pytest.mark.parametrize(
    "wire",
    [
        WireSeen(1, b"", b"", b"", b"\0\0\0\0"),  # of which nothing is known
        WireSeen(0, b"\xff\xff\xff\0", b"", bytes(4), b"\0\0\0\0"),
        WireSeen(0, b"\1\0\0\0", b"\0\0\0\0", bytes(8), b"\0\0\0\0"),
        WireSeen(0, b"\1\0\0\0", b"", b"", b"\0\0\0\0"),
        WireSeen(0, b"\1\0\0\0", b"", bytes(4), b""),
        WireSeen(0, b"\1\0\0\0", b"", bytes(4), b"\2\0\0\0"),
    ],
)
def test_what_does_not_fit_is_refused(wire: WireSeen) -> None:
    with pytest.raises(RemoteProtocolError):
        arrived(ReadStreams(num_blocks=1), 1, wire, 1)


def test_places_of_drafts_that_no_order_gives_are_refused() -> None:
    places = np.array([2, 1], dtype="<u4").tobytes()
    wire = WireSeen(0, b"\1\0\0\0", b"", bytes(4), places)
    with pytest.raises(RemoteProtocolError):
        arrived(ReadStreams(num_blocks=1), 1, wire, 2)
