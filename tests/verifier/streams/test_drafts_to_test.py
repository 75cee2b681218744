"""Which of a stream's drafts a round tests, and what the target is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.draft_path import DraftPath, DraftToken
from shared.protocol.messages import AcceptanceMode
from tests.support.ends.planning import ROW, make_stream
from verifier.streams.drafts_to_test import draft_check, drafts_to_test, num_drafts_to_test

G, R, E = DraftToken(30), DraftToken(31, ROW), DraftToken(32, ROW, ends_chunk=True)


@pytest.mark.parametrize(
    ("mode", "live", "most", "num_tested", "draws_bonus"),
    [
        ("coupled", (), 9, 0, True),
        ("coupled", (G, G, G), 9, 3, True),
        ("coupled", (G, G, G), 2, 2, True),
        ("coupled", (G, G, G), 0, 0, True),
        ("rejection", (), 9, 0, True),
        ("rejection", (R, R, E), 9, 3, True),
        ("rejection", (R, R, E), 2, 2, False),
        ("rejection", (R, R, E), 3, 3, True),
        ("rejection", (R, R, E), 0, 0, False),
        ("rejection", (E, G, R, E), 9, 1, True),  # the bonus comes before the next chunk
        ("rejection", (E, R, E), 9, 1, True),  # even if its guess was left out
        ("rejection", (G, R, E), 9, 0, True),  # a guess is compared, not tested
    ],
)
def test_what_is_tested(
    mode: AcceptanceMode,
    live: tuple[DraftToken, ...],
    most: int,
    num_tested: int,
    draws_bonus: bool,
) -> None:
    stream = make_stream(mode=mode)
    stream.take_up_again((20, 21, 22))
    stream.path = DraftPath(base=3, position=3, end=3 + len(live), live=live)
    assert (live[:num_tested], draws_bonus) == drafts_to_test(stream, most)


@given(
    mode=st.sampled_from(["coupled", "rejection"]),
    live=st.lists(st.sampled_from([G, R, E]), max_size=6),
    position=st.integers(0, 19),
)
def test_as_many_can_be_tested_as_are_where_there_is_room(
    mode: AcceptanceMode, live: list[DraftToken], position: int
) -> None:
    stream = make_stream(mode=mode)
    stream.take_up_again((20,) * position)
    end = position + len(live)
    stream.path = DraftPath(base=position, position=position, end=end, live=tuple(live))
    tested, _ = drafts_to_test(stream, 64)
    assert len(tested) == num_drafts_to_test(stream) <= max(19 - position, 0)


def test_drafts_leave_room_for_the_targets_last_token() -> None:
    stream = make_stream()
    stream.take_up_again((20,) * 17)
    stream.path = DraftPath(base=17, position=17, end=21, live=(G, G, G, G))
    tested, draws_bonus = drafts_to_test(stream, 64)
    assert (2, True) == (len(tested), draws_bonus)


def test_what_the_target_is_asked() -> None:
    stream = make_stream(mode="rejection")
    stream.take_up_again((20, 21, 22))
    stream.path = DraftPath(base=3, position=3, end=5, live=(R, E))
    check = draft_check(stream, *drafts_to_test(stream, 1))
    assert ((31,), (ROW,), "rejection", 7, 3, False) == (
        check.draft_token_ids,
        check.rows,
        check.mode,
        check.seed,
        check.position,
        check.draws_bonus,
    )
    assert stream.request.sampling == check.sampling
