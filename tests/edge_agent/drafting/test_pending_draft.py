from __future__ import annotations

import pytest

from edge_agent.drafting.pending_draft import PendingDraft
from shared.protocol.draft_path import DraftToken
from tests.edge_agent.drafting.test_stream import ROW


def unsent(*token_ids: int) -> PendingDraft:
    made = PendingDraft()
    made.chunk_length = 4
    for token_id in token_ids:
        made.append(DraftToken(token_id), 0.25)
    return made


def test_tokens_stand_in_order_with_their_time() -> None:
    made = unsent(1, 2, 3)
    assert [1, 2, 3] == [token.token_id for token in made.tokens]
    assert (3, 0.75) == (len(made.tokens), made.drafting_seconds)


def test_a_struck_token_takes_its_share_of_the_time_and_of_the_chunk() -> None:
    made = unsent(1, 2, 3)
    assert None is made.strike([1])
    assert ([2, 3], 3) == ([token.token_id for token in made.tokens], made.chunk_length)
    assert 0.5 == pytest.approx(made.drafting_seconds)


def test_a_chunk_never_becomes_shorter_than_one_token() -> None:
    made = unsent(1, 2)
    made.chunk_length = 1
    assert None is made.strike([1])
    assert 1 == made.chunk_length


@pytest.mark.parametrize(
    ("committed", "num_struck", "rest"),
    [
        ([], None, [1, 2]),
        ([1, 2], None, []),
        ([1, 2, 3], None, []),  # the target was faster
        ([9], 0, [1, 2]),
        ([1, 9, 2], 1, [2]),
    ],
)
def test_committed_tokens_strike_until_one_differs(
    committed: list[int], num_struck: int | None, rest: list[int]
) -> None:
    made = unsent(1, 2)
    assert num_struck == made.strike(committed)
    assert rest == [token.token_id for token in made.tokens]


@pytest.mark.parametrize(
    ("draft_length", "room", "has_guess", "expected"),
    [(3, 8, False, 3), (3, 2, False, 2), (3, 8, True, 4), (3, 3, True, 3), (3, 2, True, 2)],
)
def test_a_chunk_is_as_long_as_was_asked_and_as_there_is_room(
    draft_length: int, room: int, has_guess: bool, expected: int
) -> None:
    made = PendingDraft()
    assert made.begin_chunk(draft_length, room, has_guess=has_guess)
    assert expected == made.chunk_length
    for token_id in range(expected):
        assert not made.is_whole_chunk
        made.append(DraftToken(token_id), 0.0)
    assert made.is_whole_chunk


@pytest.mark.parametrize(("room", "has_guess"), [(-1, False), (0, False), (0, True), (1, True)])
def test_no_chunk_begins_without_room_for_a_token_to_test(room: int, has_guess: bool) -> None:
    made = PendingDraft()
    assert not made.begin_chunk(3, room, has_guess=has_guess)
    assert 0 == made.chunk_length


def test_a_guess_alone_is_told_from_a_chunk() -> None:
    made = unsent(1)
    assert made.is_guess
    made.append(DraftToken(2, ROW), 0.0)
    assert not made.is_guess
    assert not PendingDraft().is_guess


def test_nothing_is_left_of_what_was_sent() -> None:
    made = unsent(1, 2)
    made.clear()
    assert (0, 0, 0.0) == (len(made.tokens), made.chunk_length, made.drafting_seconds)
    assert not made.tokens
