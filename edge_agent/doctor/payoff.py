"""What drafts of a board should gain at its verifier, and what it would take for them to. Pure.

The rival is the same verifier decoding alone, one token in a round. A board that is not waited for
drafts against a target that moves on: it must catch up for as long as its draft travels, and what
it drafts meanwhile must survive. A board that is waited for pays with the time of the round trip.
The better of the two counts, as the verifier chooses, too. What one more token adds to a round is
left out, so this is an upper estimate where that is much, as on a processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import msgspec

from shared.speculation.goodput import expected_tokens

# Below it a gain is noise.
SMALLEST_GAIN = 1.1
_LONGEST_DRAFT = 16
_STEPS = 40  # of halving: exact to far less than what is shown
_FASTEST_TOKEN_SECONDS = 1e-3
_BEST_RATE = 0.98


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of board, network and verifier."""

    acceptance_rate: float  # chance of one draft token to survive, in [0, 1)
    draft_token_seconds: float
    round_trip_seconds: float
    round_seconds: float  # of the verifier, for one token without drafts


def predicted_gain(measures: Measures) -> float:
    """Tokens per second with drafts over those without; 1 where drafts gain nothing."""
    return max(1.0, _gain_ahead(measures), _gain_of_waiting(measures))


def conditions(measures: Measures) -> Iterator[str]:
    """What would make drafts pay, each by itself: a shorter way, a faster or a better draft."""
    if predicted_gain(measures) >= SMALLEST_GAIN:
        return

    def at(**changes: float) -> float:
        return predicted_gain(msgspec.structs.replace(measures, **changes))

    trip = _farthest(lambda trip: at(round_trip_seconds=trip), 0.0, measures.round_trip_seconds)
    if trip is not None:
        yield f"a round trip below {trip * 1e3:.0f} ms"
    token = _farthest(
        lambda token: at(draft_token_seconds=token),
        _FASTEST_TOKEN_SECONDS,
        measures.draft_token_seconds,
    )
    if token is not None:
        yield f"drafting at {1 / token:.0f} tokens/s or more"
    rate = _farthest(lambda rate: at(acceptance_rate=rate), _BEST_RATE, measures.acceptance_rate)
    if rate is not None:
        yield f"a draft model of which {100 * rate:.0f} % of the tokens are accepted"


def _gain_ahead(measures: Measures) -> float:
    """Of a board that is not waited for, from one rejection to the next."""
    head_start = measures.round_seconds - measures.draft_token_seconds
    if head_start <= 0:
        return 1.0
    survivors = measures.acceptance_rate / (1.0 - measures.acceptance_rate)
    tokens_behind = 1.0 + measures.round_trip_seconds / head_start
    caught_up = math.pow(measures.acceptance_rate, tokens_behind)
    token_seconds = max(
        measures.draft_token_seconds, measures.round_seconds / (1.0 + _LONGEST_DRAFT)
    )
    seconds = measures.round_seconds * (1.0 + survivors * (1.0 - caught_up))
    seconds += survivors * caught_up * token_seconds
    return (1.0 + survivors) * measures.round_seconds / seconds


def _gain_of_waiting(measures: Measures) -> float:
    """Of a board whose draft is waited for, at its best draft length.

    Nothing else runs meanwhile: a verifier with this stream alone sits out until the draft is here.
    """
    return max(
        expected_tokens(measures.acceptance_rate, length)
        * measures.round_seconds
        / (
            measures.round_seconds
            + measures.round_trip_seconds
            + length * measures.draft_token_seconds
        )
        for length in range(1, _LONGEST_DRAFT + 1)
    )


def _farthest(gain: Callable[[float], float], best: float, present: float) -> float | None:
    """The value nearest to the present one that pays; None where the best does not either."""
    if gain(best) < SMALLEST_GAIN:
        return None
    pays, fails = best, present
    for _ in range(_STEPS):
        middle = (pays + fails) / 2
        if gain(middle) >= SMALLEST_GAIN:
            pays = middle
        else:
            fails = middle
    return pays
