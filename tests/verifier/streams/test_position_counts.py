"""The histogram of how far drafts come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from verifier.streams.position_counts import MAX_COUNTED_POSITIONS, PositionCounts

draft_counts = st.tuples(st.integers(0, 2 * MAX_COUNTED_POSITIONS), st.integers(0, 1))


def test_positions_tell_how_far_drafts_come() -> None:
    counts = PositionCounts()
    for draft in ((2, 1), (1, 0), (0, 1), (0, 0)):
        counts.observe(*draft)
    assert ([3, 1, 1], [2, 1, 0]) == (counts.reached, counts.accepted)


def test_positions_behind_the_last_counted_one_are_left_out() -> None:
    counts = PositionCounts()
    counts.observe(MAX_COUNTED_POSITIONS + 5, 1)
    counts.observe(MAX_COUNTED_POSITIONS - 1, 1)
    assert [2] * MAX_COUNTED_POSITIONS == counts.reached
    assert [2] * (MAX_COUNTED_POSITIONS - 1) + [1] == counts.accepted


@given(st.lists(draft_counts, max_size=20))
def test_each_position_counts_the_drafts_that_came_to_it(drafts: list[tuple[int, int]]) -> None:
    counts = PositionCounts()
    for draft in drafts:
        counts.observe(*draft)
    assert len(counts.reached) == len(counts.accepted) <= MAX_COUNTED_POSITIONS
    for position, bar in enumerate(zip(counts.reached, counts.accepted, strict=True)):
        num_reached = sum(sum(draft) > position for draft in drafts)
        assert (num_reached, sum(draft[0] > position for draft in drafts)) == bar
    assert all(counts.reached)
