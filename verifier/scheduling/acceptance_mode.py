"""Which way to accept drafts where the request leaves it open: decided by what was measured.

`rejection` accepts a little more of a draft, and makes the stream wait for it; `coupled` never
has to wait. In a grid of 81 worlds in virtual time (tests.benchmarks.simulate_modes: rounds of 20,
60 and 150 ms, boards of 33 to 333 tokens/s, round trips of 0 to 100 ms, three draft models) coupled
is mostly ahead wherever a board needs more than half a round to answer, and rejection wherever it
needs less. This module must never keep state.
"""

from __future__ import annotations

from shared.protocol.messages import AcceptanceMode
from verifier.streams.estimates import DeviceEstimates

# A usual draft; its answer must come within this part of a round for waiting to be cheap.
USUAL_DRAFT_TOKENS = 8
LARGEST_WAIT_SHARE = 0.5


def automatic_mode(board: DeviceEstimates, round_seconds: float) -> AcceptanceMode:
    """The mode that gives this board's stream more tokens per second.

    A board whose speed or round trip is not known yet, and one without a draft model, which answers
    at once or not at all, is not waited for.
    """
    speed = board.speed
    if not speed.draft_token_seconds or speed.round_trip_seconds is None:
        return "coupled"
    wait_seconds = speed.round_trip_seconds + USUAL_DRAFT_TOKENS * speed.draft_token_seconds
    return "rejection" if wait_seconds <= LARGEST_WAIT_SHARE * round_seconds else "coupled"
