"""Which way to accept drafts where the request leaves it open: decided by what was measured.

`rejection` accepts a little more of a draft, and makes the stream wait for it; `coupled` waits
where that pays, and rounds are held for its drafts. In worlds of one stream in virtual time
(tests.benchmarks.simulate_modes, policy `rate`: boards of 33 to 1,000 tokens/s, round trips of 0 to
100 ms, three draft models) rejection is ahead by 3 % where a board answers within a fifth of a
round, level up to two fifths, and behind beyond; beside other streams it is behind by 5 % and more
already at a quarter (tests.benchmarks.simulate_fast_boards). This module must never keep state.
"""

from __future__ import annotations

from shared.protocol.messages import AcceptanceMode
from verifier.streams.estimates import DeviceEstimates

# A usual draft; its answer must come within this part of a round for waiting to be cheap.
USUAL_DRAFT_TOKENS = 8
LARGEST_WAIT_SHARE = 0.25


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
