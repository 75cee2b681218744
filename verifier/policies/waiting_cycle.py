"""How long a stream that waits takes from one draft's verdict to the next one's.

This module must never decide whether that pays.
"""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray

# Rounds in the cycle of a stream that waits: the rest of the one that is running when its draft
# arrives (half of it on average), then its own.
WAITING_ROUNDS = 1.5

# In `rejection`, what is drafted past a whole draft counts only if all of that is accepted and the
# guess of its bonus token is right. 0.1 and 0.3 are as good (21 settings in virtual time).
SMALLEST_CHANCE_TO_GO_ON = 0.2


def seconds_of_waiting(
    rates: FloatArray,
    draft_token_seconds: FloatArray,
    round_trip_seconds: FloatArray,
    lengths: IntArray,
    bare_seconds: float,
    round_seconds: float | FloatArray,
) -> FloatArray:
    """The mean seconds of the cycle; all arrays are broadcast against each other.

    A draft that is begun with the verdict takes the round trip, the drafting and 1.5 rounds; where
    the board could go on, it takes a round, or the drafting if that is more.

    Args:
        rates: acceptance rates.
        draft_token_seconds: of the boards.
        round_trip_seconds: of their links.
        lengths: of the drafts.
        bare_seconds: of a round without drafts.
        round_seconds: with these.
    """
    drafting_seconds = draft_token_seconds * lengths
    begun_seconds = (WAITING_ROUNDS - 1.0) * bare_seconds + round_seconds
    begun_seconds = begun_seconds + round_trip_seconds + drafting_seconds
    ahead_seconds = np.maximum(round_seconds, drafting_seconds)
    chances = rates ** (lengths + 1)
    chances = np.where(chances >= SMALLEST_CHANCE_TO_GO_ON, chances, 0.0)
    seconds: FloatArray = (1.0 - chances) * begun_seconds + chances * ahead_seconds
    return seconds
