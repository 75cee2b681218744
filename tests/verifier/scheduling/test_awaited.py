"""Which streams sit out for their drafts, and when rounds are held for them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.messages import AcceptanceMode
from tests.support.ends.planning import make_stream
from verifier.policies.waits import LARGEST_HELD_PART
from verifier.scheduling.awaited import Awaited, Beside, awaited_drafts
from verifier.scheduling.gathered import gather
from verifier.scheduling.schedule import draft_costs
from verifier.streams.stream import Stream

ROUND_SECONDS, TOKEN_SECONDS = 0.04, 0.0005
FAST = 0.001
BESIDE = Beside(num_others=0, longest_draft=16)


def board(
    number: int,
    draft_token_seconds: float = FAST,
    rate: float = 0.7,
    round_trip_seconds: float = 0.003,
    mode: AcceptanceMode = "coupled",
) -> Stream:
    stream = make_stream(number, device=f"board-{number}", mode=mode)
    stream.estimates.speed.draft_token_seconds = draft_token_seconds
    stream.estimates.speed.round_trip_seconds = round_trip_seconds
    for _ in range(60):
        stream.estimates.acceptance.observe_counts(round(1000 * rate), round(1000 - 1000 * rate))
    return stream


def awaited(
    *streams: Stream, length: int = 8, beside: Beside = BESIDE, token_seconds: float = TOKEN_SECONDS
) -> Awaited:
    costs = draft_costs(gather(streams), ROUND_SECONDS, token_seconds)
    return awaited_drafts(gather(streams), costs, [length] * len(streams), beside)


def test_a_round_of_fast_boards_alone_is_held_for_their_drafts() -> None:
    found = awaited(board(1), board(2), board(3, mode="rejection"))
    assert found.holds_rounds
    assert all(2 <= length <= 8 for length in found.lengths)


def test_a_stream_alone_sits_out_and_nothing_is_held() -> None:
    found = awaited(board(1))
    assert not found.holds_rounds
    assert found.lengths[0] > 0


def test_nothing_is_held_beside_one_that_gains_nothing_by_it() -> None:
    fast, slow = board(1), board(2, draft_token_seconds=0.05)
    assert not awaited(fast, slow).holds_rounds
    assert not awaited(fast, beside=BESIDE._replace(num_others=1)).holds_rounds
    assert awaited(fast, board(2)).holds_rounds


def test_nothing_is_held_for_a_board_that_does_not_keep_its_times_or_whose_length_is_fixed() -> (
    None
):
    late = board(2)
    late.estimates.speed.punctuality = 0.5
    assert not awaited(board(1), late).holds_rounds
    unknown = board(2)
    unknown.estimates.speed.round_trip_seconds = None
    assert not awaited(board(1), unknown).holds_rounds
    fixed = make_stream(2, draft_length=4)
    assert not awaited(board(1), fixed).holds_rounds


def test_boards_that_run_ahead_gain_less_than_they_lose_by_a_hold() -> None:
    """Simulated, 4 boards: 39.8 tokens/s as they are, 38.4 held (60 ms rounds, 6 ms a token)."""
    good = [board(i, draft_token_seconds=0.004, rate=0.85) for i in range(1, 5)]
    assert not awaited(*good).holds_rounds


@given(
    st.lists(
        st.tuples(st.floats(0.0, 0.05), st.floats(0.02, 0.98), st.floats(0.0, 0.05)),
        min_size=2,
        max_size=5,
    ),
    st.integers(1, 16),
)
def test_no_round_is_held_for_longer_than_a_part_of_its_own_time(
    boards: list[tuple[float, float, float]], length: int
) -> None:
    streams = [board(i, *figures) for i, figures in enumerate(boards)]
    found = awaited(*streams, length=length)
    assert max(found.lengths) <= length
    if found.holds_rounds:
        costs = draft_costs(gather(streams), ROUND_SECONDS, TOKEN_SECONDS)
        seconds = costs.draft_seconds(np.minimum(found.lengths, found.longest))
        held = seconds[np.array(found.lengths) > 0]
        assert held.max() <= LARGEST_HELD_PART * ROUND_SECONDS + 1e-9
