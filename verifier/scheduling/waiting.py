"""Whether a stream in greedy or coupled should sit out for the draft that its board begins now.

Nothing of its board is here: the path has just died, or all of it was accepted.  A round that
begins at once gives one token and takes as long as ever; where the board answers soon, a short wait
and a round with a whole draft give more.  Nobody must wait for text's sake here, so this is only a
matter of speed: a draft that does not come in time is not waited for.

This module must never keep state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from shared.speculation.goodput import expected_tokens
from verifier.scheduling.draft_payoff import DraftCosts

# What waiting must promise: estimates are estimates.
SMALLEST_GAIN = 1.05
# A board that begins anew sends its first tokens when it has this many.
FIRST_PIECE_TOKENS = 4
# Part of the drafts that must come in time for others to be waited for.
SMALLEST_PUNCTUALITY = 0.7


def length_worth_waiting_for(costs: DraftCosts, longest: int, *, is_alone: bool) -> int:
    """Return the draft length that makes waiting pay most, 0 where going on at once gives more.

    Waiting for S tokens gives mu(S) by the time of round trip, drafting and round; beside other
    streams half a round more, because theirs is running when the draft comes. What going on at
    once gives by the same time is the rival.
    """
    if draft_seconds(costs, 1) > costs.round_seconds:
        return 0  # a round that finds the draft starts as soon; and most streams end here
    rival = GoingOn.of(costs, longest)
    best, best_gain = 0, SMALLEST_GAIN
    for length in _lengths(longest):
        seconds = draft_seconds(costs, length) + length * costs.token_seconds
        seconds += costs.round_seconds * (1.0 if is_alone else 1.5)
        gain = expected_tokens(costs.acceptance_rate, length) / rival.tokens_in(seconds)
        if gain > best_gain:
            best, best_gain = length, gain
    return best


class GoingOn(NamedTuple):
    """What rounds give that start at once, without any wait.

    At first lone rounds, whose tokens strike the draft's first ones off or end its path, and one
    that finds a draft; then, as long as the path lives, each with what the board drafted meanwhile.
    """

    first_tokens: float
    first_seconds: float
    tokens_per_second: float  # from then on

    @classmethod
    def of(cls, costs: DraftCosts, longest: int) -> GoingOn:
        """Expect this of a board whose path has just died."""
        rate, round_seconds = costs.acceptance_rate, costs.round_seconds
        first_piece_seconds = draft_seconds(costs, min(FIRST_PIECE_TOKENS, longest))
        num_lone = max(math.ceil(first_piece_seconds / round_seconds), 1)
        drafting_seconds = num_lone * round_seconds - costs.round_trip_seconds
        num_live = max(_num_drafted(costs, drafting_seconds, longest + num_lone) - num_lone, 0)
        tokens = num_lone + 1.0 + rate**num_lone * (expected_tokens(rate, num_live) - 1.0)
        num_steady = _num_drafted(costs, round_seconds, longest)
        steady_seconds = round_seconds + num_steady * costs.token_seconds
        alive = rate ** (num_lone + num_live)
        return cls(
            first_tokens=tokens,
            first_seconds=(num_lone + 1) * round_seconds + num_live * costs.token_seconds,
            tokens_per_second=alive * expected_tokens(rate, num_steady) / steady_seconds
            + (1.0 - alive) / round_seconds,
        )

    def tokens_in(self, seconds: float) -> float:
        """Return the tokens that come in so many seconds."""
        if seconds <= self.first_seconds:
            return self.first_tokens * seconds / self.first_seconds
        return self.first_tokens + (seconds - self.first_seconds) * self.tokens_per_second


def draft_seconds(costs: DraftCosts, length: int) -> float:
    """Return the seconds from a verdict to the arrival of a draft that answers it."""
    return costs.round_trip_seconds + length * costs.draft_token_seconds


def _num_drafted(costs: DraftCosts, seconds: float, most: int) -> int:
    if seconds >= most * costs.draft_token_seconds:
        return most
    return int(max(seconds, 0.0) / costs.draft_token_seconds)


def _lengths(longest: int) -> Iterator[int]:
    """Yield 16, 12, 8, 6, 4, 3, 2, 1: others are hardly better, and there may be many streams."""
    while longest > 0:
        yield longest
        if longest > 2:
            yield longest * 3 // 4
        longest //= 2
