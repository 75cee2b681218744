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
from verifier.scheduling.gathered import Gathered
from verifier.scheduling.waiting import (
    SMALLEST_GAIN,
    SMALLEST_PUNCTUALITY,
    lengths_worth_waiting_for,
    num_drafted,
)

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
    streams: Gathered, costs: DraftCosts, lengths: Sequence[int], beside: Beside
) -> Awaited:
    """For how long a draft each should sit out, if its board mostly keeps its times.

    Args:
        streams: of a round.
        costs: of these streams.
        lengths: of their next drafts at most; 0: none.
        beside: what else decides.
    """
    longest = np.array(lengths, dtype=np.int64)
    may_wait = (longest > 0) & streams.has_free_length
    num_streams = len(lengths) + beside.num_others
    if num_streams > 1:
        prompt = np.flatnonzero(may_wait & (streams.punctualities >= SMALLEST_HELD_PUNCTUALITY))
        held = _held_for(costs.of(prompt), longest[prompt], num_streams, beside)
        if held.lengths.any():
            fitting = np.minimum(held.fitting, beside.longest_draft)
            of_all = _spread(held.lengths, prompt, len(lengths))
            return Awaited(of_all, _spread(fitting, prompt, len(lengths)), holds_rounds=True)
    may_wait &= (streams.punctualities >= SMALLEST_PUNCTUALITY) & ~streams.waits
    waiting = np.flatnonzero(may_wait)
    worth = lengths_worth_waiting_for(
        costs.of(waiting), longest[waiting], is_alone=num_streams == 1
    )
    of_all = _spread(worth, waiting, len(lengths))
    return Awaited(of_all, [beside.longest_draft] * len(lengths), holds_rounds=False)


class _Held(NamedTuple):
    """The drafts for which a round is held; arrays over the streams."""

    lengths: IntArray  # 0 where that is no gain
    fitting: IntArray  # the longest that come in time


def _held_for(costs: DraftCosts, most: IntArray, num_streams: int, beside: Beside) -> _Held:
    """Where a round is held for these streams, the others' patience reckoned in."""
    if not len(most):
        return _Held(most, most)
    token_seconds = num_streams * costs.token_seconds
    rivals = _speeds_not_held(costs, most, token_seconds)
    if len(most) == num_streams:
        held = _held(costs, most, rivals, token_seconds, LARGEST_HELD_PART)
        if held.lengths.all():
            return held
    part = min(beside.slowdown_limit, LARGEST_HELD_PART)
    return _held(costs, most, rivals, token_seconds, part)


def _held(
    costs: DraftCosts, most: IntArray, rivals: FloatArray, token_seconds: float, part: float
) -> _Held:
    """Where a round is held for a part of its own time at most, and all draft for it.

    `rivals`: tokens per second of rounds that are not held [num_streams]. `token_seconds`: what a
    token more of each stream adds to a round.
    """
    seconds = part * costs.round_seconds - costs.round_trip_seconds
    fitting = num_drafted(costs, seconds, most)
    if not fitting.any():
        return _Held(fitting, fitting)
    lengths = np.arange(1, int(fitting.max()) + 1)
    held_seconds = costs.round_seconds + costs.round_trip_seconds[:, None]
    held_seconds = held_seconds + lengths * (costs.draft_token_seconds[:, None] + token_seconds)
    speeds = expected_tokens_up_to(costs.acceptance_rates, len(lengths)) / held_seconds
    speeds[lengths > fitting[:, None]] = 0.0
    gains = speeds.max(axis=1) / rivals
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


def _spread(lengths: IntArray, chosen: IntArray, num_streams: int) -> list[int]:
    """The lengths of the chosen ones, and 0 of all others."""
    of_all = np.zeros(num_streams, dtype=np.int64)
    of_all[chosen] = lengths
    spread: list[int] = of_all.tolist()
    return spread
