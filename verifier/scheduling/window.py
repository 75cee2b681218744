"""How far ahead of the verdicts a board may draft.

Pure; this module must never grant a window that the board's acceptance does not pay for.
"""

from __future__ import annotations

import math

from shared.protocol.messages import MAX_DRAFT_TOKENS
from verifier.scheduling.draft_payoff import (
    SMALLEST_SURVIVAL_AHEAD,
    SMALLEST_SURVIVAL_ON_THE_WAY,
    can_go_on,
    worthwhile_depth,
)
from verifier.streams.stream import Stream


def window_of(stream: Stream, length: int, rate: float | None, round_seconds: float) -> int:
    """How far to draft so that the next rounds find a whole Draft each.

    In `rejection` the next round waits for a Draft, and the guess of the bonus token stands between
    that and the one after it. Else the next round starts at once with the live tokens, and commits
    one more: only what lies beyond that can still be tested. Tokens must have a fair chance to
    survive until then at an acceptance `rate` (None: as far as asked).
    """
    num_live = len(stream.path.live)
    if stream.request.mode == "rejection":
        if rate is not None and not can_go_on(rate, length):
            return length
        window = 2 * length + 1
    elif num_live:
        window = min(num_live + 1 + length, _depth(rate, SMALLEST_SURVIVAL_AHEAD))
    else:
        window = 1 + length
    on_the_way = _tokens_on_the_way(stream, length, round_seconds)
    if on_the_way <= window:
        return window
    return max(window, min(on_the_way, _depth(rate, SMALLEST_SURVIVAL_ON_THE_WAY)))


def _depth(rate: float | None, smallest_survival: float) -> int:
    return MAX_DRAFT_TOKENS if rate is None else worthwhile_depth(rate, smallest_survival)


def _tokens_on_the_way(stream: Stream, length: int, round_seconds: float) -> int:
    """What a board has to be ahead for every round to find a whole Draft of it there.

    Rounds go on while a verdict and the drafts that answer it travel, and the board can draft all
    that time; each round takes what the board drafts meanwhile, and one more.
    """
    speed = stream.estimates.speed
    if not speed.draft_token_seconds or not speed.round_trip_seconds:
        return 0
    tokens_per_round = min(float(length), round_seconds / speed.draft_token_seconds) + 1.0
    rounds_on_the_way = speed.round_trip_seconds / round_seconds
    # The round that runs, and what of the next one goes by before the answer's first part.
    return math.ceil(tokens_per_round * (1.0 + min(rounds_on_the_way, 1.0) + rounds_on_the_way))
