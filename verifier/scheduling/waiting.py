"""Which streams in greedy or coupled should sit out for the draft that their board begins now.

Nothing of its board is here: the path has just died, or all of it was accepted. A round that
begins at once gives one token and takes as long as ever; where the board answers soon, a short wait
and a round with a whole draft give more. No stream must wait for text's sake here, so this is only
a matter of speed: a draft that does not come in time is not waited for.

Ours: the paper's streams always wait. This module must never keep state.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray, expected_tokens, expected_tokens_up_to
from verifier.scheduling.draft_payoff import DraftCosts

# What waiting must promise: estimates are estimates.
SMALLEST_GAIN = 1.05
# A board that begins anew sends its first tokens when it has this many.
FIRST_PIECE_TOKENS = 4
# Of a board of which nothing is known, or whose model needs no time.
SHORTEST_TOKEN_SECONDS = 1e-9
# Part of the drafts that must come in time for others to be waited for.
SMALLEST_PUNCTUALITY = 0.7


def lengths_worth_waiting_for(
    costs: DraftCosts, max_lengths: IntArray, *, is_alone: bool
) -> IntArray:
    """The draft lengths that make waiting pay most; 0 where going on at once gives more.

    Waiting for S tokens gives mu(S) by the time of round trip, drafting and round; beside other
    streams half a round more, because theirs is running when the draft comes. What going on at
    once gives by the same time is the rival.

    Args:
        costs: of the streams [num_streams].
        max_lengths: draft that each may be asked for, at least 1 [num_streams].
        is_alone: whether there is no other stream.
    """
    chosen_lengths = np.zeros(len(max_lengths), dtype=np.int64)
    # Others find their draft in a round that starts as soon; most streams end here.
    near_streams = np.flatnonzero(costs.draft_seconds(1) <= costs.round_seconds)
    if not len(near_streams):
        return chosen_lengths
    near = costs
    if len(near_streams) < len(max_lengths):
        near, max_lengths = costs.of(near_streams), max_lengths[near_streams]
    lengths = np.arange(1, int(max_lengths.max()) + 1)
    seconds = near.round_trip_seconds[:, None] + lengths * near.draft_token_seconds[:, None]
    seconds += lengths * near.token_seconds + near.round_seconds * (1.0 if is_alone else 1.5)
    tokens = expected_tokens_up_to(near.acceptance_rates, len(lengths))
    gains = tokens / GoingOn.of(near, max_lengths).tokens_in(seconds)
    gains[lengths > max_lengths[:, None]] = 0.0
    best_columns = gains.argmax(axis=1)
    pays = gains[np.arange(len(best_columns)), best_columns] > SMALLEST_GAIN
    chosen_lengths[near_streams] = np.where(pays, best_columns + 1, 0)
    return chosen_lengths


class GoingOn(NamedTuple):
    """What rounds give that start at once, without any wait; arrays over the streams.

    At first lone rounds, whose tokens strike the draft's first ones off or end its path, and one
    that finds a draft; then, as long as the path lives, each with what the board drafted meanwhile.
    """

    first_tokens: FloatArray
    first_seconds: FloatArray
    tokens_per_second: FloatArray  # from then on

    @classmethod
    def of(cls, costs: DraftCosts, max_lengths: IntArray) -> GoingOn:
        """Expect this of boards whose paths have just died."""
        rates, round_seconds = costs.acceptance_rates, costs.round_seconds
        first_piece_seconds = costs.draft_seconds(np.minimum(FIRST_PIECE_TOKENS, max_lengths))
        num_lone = np.maximum(np.ceil(first_piece_seconds / round_seconds), 1.0).astype(np.int64)
        # Both at once: of few streams a call of numpy's takes longer than what it reckons.
        first_seconds = num_lone * round_seconds - costs.round_trip_seconds
        seconds = np.array([first_seconds, np.full_like(rates, round_seconds)])
        drafted = num_drafted(costs, seconds, np.array([max_lengths + num_lone, max_lengths]))
        drafted[0] = np.maximum(drafted[0] - num_lone, 0)
        num_live, num_steady = drafted
        live_tokens, steady_tokens = expected_tokens(rates, drafted)
        tokens = num_lone + 1.0 + rates**num_lone * (live_tokens - 1.0)
        steady_seconds = round_seconds + num_steady * costs.token_seconds
        alive = rates ** (num_lone + num_live)
        return cls(
            first_tokens=tokens,
            first_seconds=(num_lone + 1) * round_seconds + num_live * costs.token_seconds,
            tokens_per_second=alive * steady_tokens / steady_seconds
            + (1.0 - alive) / round_seconds,
        )

    def tokens_in(self, seconds: FloatArray) -> FloatArray:
        """The tokens that come in so many seconds [num_streams, any]."""
        first_seconds, first_tokens = self.first_seconds[:, None], self.first_tokens[:, None]
        early = first_tokens * np.minimum(seconds / first_seconds, 1.0)
        later = np.maximum(seconds - first_seconds, 0.0) * self.tokens_per_second[:, None]
        tokens: FloatArray = early + later
        return tokens


def num_drafted(costs: DraftCosts, seconds: FloatArray, max_lengths: IntArray) -> IntArray:
    """The tokens that each board drafts in so many seconds, its longest draft at most."""
    token_seconds = np.maximum(costs.draft_token_seconds, SHORTEST_TOKEN_SECONDS)
    whole_tokens = np.minimum(np.maximum(seconds, 0.0) / token_seconds, max_lengths)
    # Rounding must not take the last token of a draft that just fits.
    is_enough = seconds >= max_lengths * costs.draft_token_seconds
    return np.where(is_enough, max_lengths, whole_tokens.astype(np.int64))
