"""Which draft tokens are still worth anything: every case of commits and drafts on one path."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.protocol.draft_path import DraftPath, DraftToken, Extension
from shared.speculation.sparse_row import SparseRow

FAR = 1000  # a limit that is never reached
ROW = SparseRow(np.array([7], dtype=np.uint32), np.array([1], dtype=np.uint16))


def tokens(*token_ids: int) -> tuple[DraftToken, ...]:
    return tuple(DraftToken(token_id) for token_id in token_ids)


def draft(base: int, position: int, *token_ids: int) -> Extension:
    return Extension(base, position, tokens(*token_ids))


def path_of(base: int, position: int, *live: int) -> DraftPath:
    """A path whose live tokens begin at the committed position."""
    return DraftPath(base, position, position + len(live), tokens(*live))


def refusal(path: DraftPath, extension: Extension, committed: list[int], limit: int = FAR) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        path.extend(extension, committed, limit)
    return str(caught.value)


# --- committed tokens meet the path -----------------------------------------------------------


def test_a_stream_begins_with_an_empty_path() -> None:
    assert DraftPath() == DraftPath.begin(0) == path_of(0, 0)


def test_a_stream_that_is_taken_up_again_begins_where_it_was() -> None:
    assert path_of(5, 5) == DraftPath.begin(5)


@pytest.mark.parametrize(
    ("before", "committed", "after"),
    [
        (path_of(0, 0, 1, 2, 3), [], path_of(0, 0, 1, 2, 3)),
        (path_of(0, 0, 1, 2, 3), [1], path_of(0, 1, 2, 3)),
        (path_of(0, 0, 1, 2, 3), [1, 2, 3], path_of(0, 3)),
        (path_of(4, 6, 1, 2, 3), [1, 2], path_of(4, 8, 3)),
    ],
)
def test_equal_tokens_are_struck_off(
    before: DraftPath, committed: list[int], after: DraftPath
) -> None:
    assert after == before.commit(committed)


@pytest.mark.parametrize(
    ("committed", "base"),
    [([9], 1), ([1, 9], 2), ([1, 2, 9], 3), ([1, 9, 3], 2), ([9, 2, 3, 4], 1)],
)
def test_the_first_difference_ends_the_path(committed: list[int], base: int) -> None:
    after = DraftPath(base=base, position=len(committed), end=base)
    assert after == path_of(0, 0, 1, 2, 3).commit(committed)


def test_commits_beyond_the_path_leave_it_alive() -> None:
    after = DraftPath(base=0, position=5, end=3)
    assert after == path_of(0, 0, 1, 2, 3).commit([1, 2, 3, 4, 5])
    assert DraftPath(base=0, position=6, end=3) == after.commit([6])


def test_a_difference_forgets_the_pass_of_the_path_that_died() -> None:
    passed = path_of(0, 0, 1, 2).extend(draft(0, 2), [], FAR)
    assert not passed.commit([9, 9]).has_passed


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)), st.integers(0, 5))
def test_commits_may_come_in_any_portions(
    live: list[int], committed: list[int], split: int
) -> None:
    in_portions = path_of(0, 0, *live).commit(committed[:split]).commit(committed[split:])
    assert path_of(0, 0, *live).commit(committed) == in_portions


# --- drafts arrive ----------------------------------------------------------------------------


def test_the_first_draft_is_live() -> None:
    assert path_of(0, 0, 1, 2) == DraftPath().extend(draft(0, 0, 1, 2), [], FAR)


def test_the_next_draft_continues_the_path() -> None:
    assert path_of(0, 0, 1, 2, 3) == path_of(0, 0, 1, 2).extend(draft(0, 2, 3), [], FAR)


def test_a_draft_keeps_its_rows_and_ends_of_chunks() -> None:
    token = DraftToken(7, ROW, ends_chunk=True)
    extended = path_of(0, 0, 1).extend(Extension(0, 1, (token,)), [], FAR)
    assert (*tokens(1), token) == extended.live


def test_a_gap_is_refused() -> None:
    assert "draft at 3 leaves a gap after 2" == refusal(path_of(0, 0, 1, 2), draft(0, 3, 9), [])
    assert "draft at 6 leaves a gap after 5" == refusal(DraftPath(0, 5, 2), draft(0, 6, 9), [1] * 5)


@pytest.mark.parametrize("repeated", [draft(0, 0, 1, 2, 3), draft(0, 1, 2), draft(0, 2, 3)])
def test_an_identical_overlap_changes_nothing(repeated: Extension) -> None:
    before = path_of(0, 0, 1, 2, 3)
    assert before == before.extend(repeated, [], FAR)


def test_an_overlap_that_goes_on_adds_only_what_is_new() -> None:
    assert path_of(0, 0, 1, 2, 3) == path_of(0, 0, 1, 2).extend(draft(0, 1, 2, 3), [], FAR)


def test_an_identical_overlap_with_committed_tokens_changes_nothing() -> None:
    before = path_of(0, 0, 1, 2, 3).commit([1, 2])
    assert before == before.extend(draft(0, 0, 1, 2, 3), [1, 2], FAR)


def test_an_overlap_may_begin_with_committed_tokens_and_go_on() -> None:
    before = path_of(0, 0, 1, 2, 3).commit([1, 2])
    assert path_of(0, 2, 3, 4) == before.extend(draft(0, 1, 2, 3, 4), [1, 2], FAR)


@pytest.mark.parametrize(
    ("conflicting", "position"),
    [(draft(0, 0, 9), 0), (draft(0, 1, 2, 9), 2), (draft(0, 2, 9, 4), 2)],
)
def test_an_overlap_that_conflicts_with_live_tokens_is_refused(
    conflicting: Extension, position: int
) -> None:
    assert f"draft conflicts with an earlier one at position {position}" == refusal(
        path_of(0, 0, 1, 2, 3), conflicting, []
    )


@pytest.mark.parametrize(
    ("conflicting", "position"), [(draft(0, 0, 9), 0), (draft(0, 0, 1, 9, 3), 1)]
)
def test_an_overlap_that_conflicts_with_struck_off_tokens_is_refused(
    conflicting: Extension, position: int
) -> None:
    before = path_of(0, 0, 1, 2, 3).commit([1, 2])
    assert f"draft conflicts with an earlier one at position {position}" == refusal(
        before, conflicting, [1, 2]
    )


def test_a_draft_of_an_older_base_is_dropped_whatever_it_holds() -> None:
    before = path_of(4, 6, 1, 2)
    for dropped in (
        draft(3, 3, 9),
        draft(3, 99, 9),
        draft(0, 0),
        draft(3, 6, 5, 5),
        draft(3, 0, 9),
    ):
        assert before is before.extend(dropped, [0] * 6, limit=6)


def test_a_base_that_never_was_is_refused() -> None:
    assert "draft base 5 is ahead of 4" == refusal(path_of(4, 6), draft(5, 6, 1), [0] * 6)


def test_a_draft_before_its_base_is_refused() -> None:
    assert "draft at 3 starts before its base 4" == refusal(path_of(4, 6), draft(4, 3, 1), [0] * 6)


def test_the_window_limits_the_last_token() -> None:
    before = path_of(0, 2, 7)
    assert path_of(0, 2, 7, 8, 9) == before.extend(draft(0, 3, 8, 9), [1, 2], limit=5)
    assert "draft up to 5 exceeds the window, which ends at 4" == refusal(
        before, draft(0, 3, 8, 9), [1, 2], limit=4
    )


def test_a_repeated_draft_is_limited_like_any_other() -> None:
    before = path_of(0, 0, 1, 2)
    assert before == before.extend(draft(0, 0, 1, 2), [], limit=2)


# --- late drafts ------------------------------------------------------------------------------


def test_a_late_draft_that_agrees_is_struck_off() -> None:
    before = DraftPath(base=0, position=3, end=0)
    assert DraftPath(0, 3, 2) == before.extend(draft(0, 0, 1, 2), [1, 2, 3], FAR)
    assert DraftPath(0, 3, 3) == before.extend(draft(0, 0, 1, 2, 3), [1, 2, 3], FAR)


def test_the_rest_of_a_late_draft_stays_live() -> None:
    before = DraftPath(base=0, position=2, end=0)
    assert path_of(0, 2, 3, 4) == before.extend(draft(0, 0, 1, 2, 3, 4), [1, 2], FAR)


def test_a_late_draft_that_overlaps_is_struck_off_behind_the_overlap() -> None:
    before = DraftPath(base=0, position=3, end=1)
    assert path_of(0, 3, 4) == before.extend(draft(0, 0, 1, 2, 3, 4), [1, 2, 3], FAR)


@pytest.mark.parametrize(
    ("late", "base"),
    [
        (draft(0, 0, 9), 1),
        (draft(0, 0, 1, 9), 2),
        (draft(0, 0, 1, 9, 3, 4), 2),
        (draft(0, 0, 1, 2, 9), 3),
    ],
)
def test_a_late_draft_that_differs_ends_the_path_at_the_difference(
    late: Extension, base: int
) -> None:
    before = DraftPath(base=0, position=3, end=0, passed_at=3)
    assert DraftPath(base=base, position=3, end=base) == before.extend(late, [1, 2, 3], FAR)


def test_after_a_late_death_the_next_path_may_be_late_too() -> None:
    died = DraftPath(base=0, position=3, end=0).extend(draft(0, 0, 9), [1, 2, 3], FAR)
    assert died == died.extend(draft(0, 1, 5, 5, 5), [1, 2, 3], FAR)
    assert path_of(1, 3, 4) == died.extend(draft(1, 1, 2, 3, 4), [1, 2, 3], FAR)


def test_a_draft_may_begin_anywhere_in_what_the_target_committed_alone() -> None:
    before = DraftPath(base=0, position=4, end=1)
    assert path_of(0, 4, 5) == before.extend(draft(0, 2, 3, 4, 5), [1, 2, 3, 4], FAR)


@given(
    st.lists(st.integers(0, 1), max_size=6),
    st.lists(st.integers(0, 1), max_size=6),
    st.integers(0, 6),
)
def test_late_or_in_time_a_draft_leaves_the_same_path(
    drafted: list[int], committed: list[int], in_time: int
) -> None:
    """A draft that meets its commits before, after or in the middle of them ends alike."""
    first, second = committed[:in_time], committed[in_time:]
    early = DraftPath().extend(draft(0, 0, *drafted), [], FAR).commit(committed)
    middle = DraftPath().commit(first).extend(draft(0, 0, *drafted), first, FAR).commit(second)
    late = DraftPath().commit(committed).extend(draft(0, 0, *drafted), committed, FAR)
    facts = {(path.base, path.position, path.live) for path in (early, middle, late)}
    assert 1 == len(facts)


# --- passes and restarts ----------------------------------------------------------------------


def test_an_older_pass_that_arrives_again_changes_nothing() -> None:
    first = path_of(0, 2).extend(draft(0, 2), [1, 2], FAR)
    second = first.commit([3]).extend(draft(0, 3), [1, 2, 3], FAR)
    assert second == second.extend(draft(0, 2), [1, 2, 3], FAR)
    assert second.has_passed


def test_an_empty_draft_is_a_pass_for_its_position() -> None:
    passed = path_of(0, 2).extend(draft(0, 2), [1, 2], FAR)
    assert passed.has_passed
    assert not DraftPath().has_passed
    assert (0, 2, 2, ()) == (passed.base, passed.position, passed.end, passed.live)


def test_a_pass_counts_for_one_position_only() -> None:
    passed = path_of(0, 2).extend(draft(0, 2), [1, 2], FAR)
    assert not passed.commit([3]).has_passed


def test_a_late_pass_does_not_count() -> None:
    assert not DraftPath(0, 3, 2).extend(draft(0, 2), [1, 2, 3], FAR).has_passed


def test_a_pass_of_an_older_base_does_not_count() -> None:
    before = path_of(2, 2)
    assert before is before.extend(draft(1, 2), [1, 2], FAR)


def test_a_pass_has_its_place_like_a_draft() -> None:
    assert "draft at 3 leaves a gap after 2" == refusal(path_of(0, 2), draft(0, 3), [1, 2])
    assert "draft up to 2 exceeds the window, which ends at 1" == refusal(
        path_of(0, 2), draft(0, 2), [1, 2], limit=1
    )


def test_a_restart_leaves_everything_behind_that_may_be_in_flight() -> None:
    restarted = DraftPath(base=3, position=3, end=4, live=tokens(1), passed_at=3).restart()
    assert DraftPath(base=4, position=3, end=4) == restarted
    assert restarted == restarted.extend(draft(3, 3, 1), [0] * 3, FAR)
    assert "draft at 3 starts before its base 4" == refusal(restarted, draft(4, 3, 1), [0] * 3)


def test_a_restarted_path_goes_on_after_the_next_commit() -> None:
    going_on = path_of(3, 3, 1, 2).restart().commit([5])
    assert path_of(4, 4) == going_on
    assert path_of(4, 4, 6) == going_on.extend(draft(4, 4, 6), [0, 0, 0, 5], FAR)
