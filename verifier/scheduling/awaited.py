"""Which drafts the streams of a round sit out for, and whether the round is held for them.

A stream that sits out beside others misses the round that goes on without it. Where all that are in
the round have boards that answer soon, it is better for all of them if the round waits that while:
else each rejection costs a round that gives one token. This module must never hold a round for a
board that does not keep its times, nor beside streams that lose more by it than they may.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.speculation.goodput import (
    FloatArray,
    IntArray,
    expected_tokens,
    expected_tokens_up_to,
)
from verifier.scheduling.draft_payoff import DraftCosts
from verifier.scheduling.waiting import (
    SMALLEST_GAIN,
    SMALLEST_PUNCTUALITY,
    lengths_worth_waiting_for,
    num_drafted,
)
from verifier.streams.stream import Stream

# Of a round, that it may be held for drafts which come when they should; where one is late it
# starts after half of a round and a little.
LARGEST_HELD_PART = 1 / 3
# Part of its drafts that must come in time for others to be held for a board: one that is late on
# purpose as often as it may be costs them a twentieth of a round.
SMALLEST_HELD_PUNCTUALITY = 0.9


class Awaited(NamedTuple):
    """What streams whose boards have just begun anew do."""

    lengths: list[int]  # of the drafts that they sit out for; 0: for none, or (`rejection`) any
    longest: list[int]  # that those may be whose boards stop by themselves
    holds_rounds: bool  # whether no round starts before these are here, or late


class Beside(NamedTuple):
    """What else decides about a wait."""

    num_others: int  # streams of the round that are not asked about
    slowdown_limit: float  # part of a round for which those are held that gain nothing by it
    longest_draft: int


def awaited_drafts(
    streams: Sequence[Stream], costs: DraftCosts, lengths: Sequence[int], beside: Beside
) -> Awaited:
    """For how long a draft each should sit out, if its board mostly keeps its times.

    Args:
        streams: of a round.
        costs: of these streams.
        lengths: of their next drafts at most; 0: none.
        beside: what else decides.
    """
    keeping_times = [i for i, length in enumerate(lengths) if length and _keeps_times(streams[i])]
    num_streams = len(streams) + beside.num_others
    held = None
    prompt = [
        i
        for i in keeping_times
        if streams[i].estimates.speed.punctuality >= SMALLEST_HELD_PUNCTUALITY
    ]
    if prompt and num_streams > 1:
        of_them, most = costs.of(np.array(prompt)), _of(lengths, prompt)
        held = _held(of_them, most, num_streams, LARGEST_HELD_PART)
        if (held.lengths > 0).sum() < num_streams:
            part = min(beside.slowdown_limit, LARGEST_HELD_PART)
            held = _held(of_them, most, num_streams, part)
    if held is not None and held.lengths.any():
        awaited, longest = np.zeros((2, len(streams)), dtype=np.int64)
        awaited[prompt] = held.lengths
        longest[prompt] = np.minimum(held.fitting, beside.longest_draft)
        return Awaited(awaited.tolist(), longest.tolist(), holds_rounds=True)
    awaited = np.zeros(len(streams), dtype=np.int64)
    chosen = [i for i in keeping_times if streams[i].request.mode == "coupled"]
    if chosen:
        awaited[chosen] = lengths_worth_waiting_for(
            costs.of(np.array(chosen)), _of(lengths, chosen), is_alone=num_streams == 1
        )
    return Awaited(awaited.tolist(), [beside.longest_draft] * len(streams), holds_rounds=False)


class _Held(NamedTuple):
    """The drafts for which a round is held; arrays over the streams."""

    lengths: IntArray  # 0 where that is no gain
    fitting: IntArray  # the longest that come in time


def _held(costs: DraftCosts, most: IntArray, num_streams: int, part: float) -> _Held:
    """Where a round is held for a part of its own time at most, and all draft for it."""
    seconds = part * costs.round_seconds - costs.round_trip_seconds
    fitting = num_drafted(costs, seconds, most)
    token_seconds = num_streams * costs.token_seconds
    lengths = np.arange(1, max(int(fitting.max()), 1) + 1)
    held_seconds = costs.round_seconds + costs.round_trip_seconds[:, None]
    held_seconds = held_seconds + lengths * (costs.draft_token_seconds[:, None] + token_seconds)
    speeds = expected_tokens_up_to(costs.acceptance_rates, len(lengths)) / held_seconds
    speeds[lengths > fitting[:, None]] = 0.0
    gains = speeds.max(axis=1) / _speeds_not_held(costs, most, token_seconds)
    return _Held(np.where(gains > SMALLEST_GAIN, speeds.argmax(axis=1) + 1, 0), fitting)


def _speeds_not_held(costs: DraftCosts, most: IntArray, token_seconds: float) -> FloatArray:
    """Tokens per second where rounds follow each other at once [num_streams].

    One that never waits gets a token alone after each rejection; if that token is what its board
    has drafted, the next round finds the rest of the draft, and so on until one is refused (a
    chain of two states). One that waits misses half a round for each draft.
    """
    rates, round_seconds = costs.acceptance_rates, costs.round_seconds
    num_live = num_drafted(costs, round_seconds - costs.round_trip_seconds, most)
    chances = np.where(num_live > 0, rates / (1.0 - rates ** (num_live + 1)), 0.0)
    alone = 1.0 / (1.0 + chances)  # part of the rounds
    tokens = alone + (1.0 - alone) * expected_tokens(rates, num_live)
    going_on = tokens / (round_seconds + (1.0 - alone) * num_live * token_seconds)
    waiting_seconds = costs.draft_seconds(most) + 1.5 * round_seconds + most * token_seconds
    speeds: FloatArray = np.where(
        costs.waits, expected_tokens(rates, most) / waiting_seconds, going_on
    )
    return speeds


def _of(lengths: Sequence[int], chosen: Sequence[int]) -> IntArray:
    return np.array([lengths[i] for i in chosen], dtype=np.int64)


def _keeps_times(stream: Stream) -> bool:
    speed = stream.estimates.speed
    return (
        stream.request.draft_length is None
        and speed.round_trip_seconds is not None
        and speed.punctuality >= SMALLEST_PUNCTUALITY
    )
