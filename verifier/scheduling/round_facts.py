"""What a finished round shows of how fast streams are: plain numbers, for who compares rounds.

Pure. This module must never decide which rounds count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from verifier.streams.settled import Settled
from verifier.streams.stream import Stream


class RoundFacts(NamedTuple):
    """One round, and the streams that were open in it."""

    seconds: float  # from the end of the round before, waiting included
    num_tokens: int  # of output
    num_streams: int  # that write; those that read prompts are none
    devices: frozenset[str]  # of these
    drafting_devices: frozenset[str]  # of which it tested drafts
    reads_prompts: bool
    may_draft: bool  # whether it is the verifier's to say what some stream's board drafts
    has_windows: bool  # whether some board was let draft, in time or not
    reading_devices: frozenset[str] = frozenset()  # of streams that read prompts


def round_facts(
    seconds: float,
    streams: Iterable[Stream],
    settled: Sequence[tuple[Stream, Settled]],
    *,
    reads_prompts: bool,
) -> RoundFacts:
    """The facts of a round, of all open streams with or without a part in it."""
    writing: list[Stream] = []
    reading: list[Stream] = []
    for stream in streams:
        (reading if stream.reads_prompt else writing).append(stream)
    return RoundFacts(
        seconds=seconds,
        num_tokens=sum([one.num_tokens for _, one in settled]),
        num_streams=len(writing),
        devices=frozenset([stream.device for stream in writing]),
        drafting_devices=frozenset([stream.device for stream, one in settled if one.num_tested]),
        reads_prompts=reads_prompts,
        may_draft=any(stream.request.draft_length is None for stream in writing),
        has_windows=any(stream.window > 0 for stream in writing),
        reading_devices=frozenset([stream.device for stream in reading]),
    )
