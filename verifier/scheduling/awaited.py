"""Which drafts the streams of a round sit out for, and whether the round is held for them.

A stream that sits out beside others misses the round that goes on without it. Where all that are in
the round have boards that answer soon, it is better for all of them if the round waits that while:
else each rejection costs a round that gives one token. This module must never hold a round for a
board that does not keep its times, nor beside a stream that loses by it: where all were held for
those that gain, 64 unlike boards of 120 ms rounds got 12 % less (tests.benchmarks.simulate_grid).
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
from verifier.policies.waits import LARGEST_HELD_PART
from verifier.scheduling.draft_payoff import DraftCosts
from verifier.scheduling.gathered import Gathered
from verifier.scheduling.waiting import (
    SMALLEST_GAIN,
    SMALLEST_PUNCTUALITY,
    lengths_worth_waiting_for,
    num_drafted,
)

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
    longest_draft: int


def awaited_drafts(
    streams: Gathered, costs: DraftCosts, lengths: Sequence[int], beside: Beside
) -> Awaited:
    """For how long a draft each should sit out, if its board mostly keeps its times.

    Args:
        streams: of a round.
        costs: of these streams.
        lengths: of their next drafts at most; 0: none.
        beside: what else decides.
    """
    most = np.array(lengths, dtype=np.int64)
    may_wait = (most > 0) & streams.has_free_length
    num_streams = len(lengths) + beside.num_others
    is_prompt = may_wait & (streams.punctualities >= SMALLEST_HELD_PUNCTUALITY)
    if int(is_prompt.sum()) == num_streams > 1:
        held = _held(costs, most, num_streams)
        if held.lengths.all():
            longest = np.minimum(held.fitting, beside.longest_draft)
            return Awaited(held.lengths.tolist(), longest.tolist(), holds_rounds=True)
    may_wait &= (streams.punctualities >= SMALLEST_PUNCTUALITY) & ~streams.waits
    chosen = np.flatnonzero(may_wait)
    awaited = np.zeros(len(lengths), dtype=np.int64)
    if len(chosen) == len(lengths) > 0:  # nearly always: nothing need be picked out
        awaited = lengths_worth_waiting_for(costs, most, is_alone=num_streams == 1)
    elif len(chosen):
        awaited[chosen] = lengths_worth_waiting_for(
            costs.of(chosen), most[chosen], is_alone=num_streams == 1
        )
    return Awaited(awaited.tolist(), [beside.longest_draft] * len(lengths), holds_rounds=False)


class _Held(NamedTuple):
    """The drafts for which a round is held; arrays over the streams."""

    lengths: IntArray  # 0 where that is no gain
    fitting: IntArray  # the longest that come in time


def _held(costs: DraftCosts, most: IntArray, num_streams: int) -> _Held:
    """Where a round is held for a part of its own time at most, and all draft for it."""
    seconds = LARGEST_HELD_PART * costs.round_seconds - costs.round_trip_seconds
    fitting = num_drafted(costs, seconds, most)
    if not fitting.all():
        return _Held(np.zeros_like(fitting), fitting)
    token_seconds = num_streams * costs.token_seconds
    lengths = np.arange(1, int(fitting.max()) + 1)
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
    going_on: FloatArray = tokens / (round_seconds + (1.0 - alone) * num_live * token_seconds)
    if not costs.waits.any():
        return going_on
    waiting_seconds = costs.draft_seconds(most) + 1.5 * round_seconds + most * token_seconds
    speeds: FloatArray = np.where(
        costs.waits, expected_tokens(rates, most) / waiting_seconds, going_on
    )
    return speeds
