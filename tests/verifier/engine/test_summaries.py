"""Kept answers become small a few at a time."""

from __future__ import annotations

import asyncio

from tests.support.ends.planning import make_stream
from verifier.engine.summaries import Summaries
from verifier.streams.kept_streams import EndedStream, KeptStream, KeptStreams

LONG, NUM_STREAMS = 40_000, 4


def streams_of(num_prompt_tokens: int) -> KeptStreams:
    streams = KeptStreams(NUM_STREAMS)
    for stream_id in range(NUM_STREAMS):
        stream = make_stream(prompt_ids=(7,) * num_prompt_tokens)
        stream.end("length")
        streams.keep(KeptStream(stream_id, 1, 10.0, stream))
    return streams


def num_small(streams: KeptStreams) -> int:
    found = [streams.find(stream_id, 2) for stream_id in range(NUM_STREAMS)]
    return sum(kept is not None and isinstance(kept.content, EndedStream) for kept in found)


async def sizes(streams: KeptStreams, num_turns: int) -> list[int]:
    """How many are small before each turn of the loop."""
    summaries = Summaries()
    for stream_id in range(NUM_STREAMS):
        summaries.add(streams, stream_id)
    counted = []
    for _ in range(num_turns):
        counted.append(num_small(streams))
        await asyncio.sleep(0)
    return counted


def test_long_ones_are_made_small_one_in_each_turn_of_the_loop() -> None:
    assert [0, 1, 2, 3, 4] == asyncio.run(sizes(streams_of(LONG), 5))


def test_short_ones_are_made_small_in_one_turn() -> None:
    assert [0, 4] == asyncio.run(sizes(streams_of(5), 2))


def test_one_that_is_not_kept_any_more_is_left_out() -> None:
    streams = streams_of(LONG)
    streams.discard(1)
    assert [0, 1, 2, 3] == asyncio.run(sizes(streams, 4))
