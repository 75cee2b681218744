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
    assert [1, 2, 3] == [token.token_id for token in made]
    assert (3, 1, 0.75) == (len(made), made.first.token_id, made.drafting_seconds)


def test_a_struck_token_takes_its_share_of_the_time_and_of_the_chunk() -> None:
    made = unsent(1, 2, 3)
    made.strike_first()
    assert ([2, 3], 3) == ([token.token_id for token in made], made.chunk_length)
    assert 0.5 == pytest.approx(made.drafting_seconds)


def test_a_chunk_never_becomes_shorter_than_one_token() -> None:
    made = unsent(1, 2)
    made.chunk_length = 1
    made.strike_first()
    assert 1 == made.chunk_length


def test_a_guess_alone_is_told_from_a_chunk() -> None:
    made = unsent(1)
    assert made.is_guess
    made.append(DraftToken(2, ROW), 0.0)
    assert not made.is_guess
    assert not PendingDraft().is_guess


def test_nothing_is_left_of_what_was_sent() -> None:
    made = unsent(1, 2)
    made.clear()
    assert (0, 0, 0.0) == (len(made), made.chunk_length, made.drafting_seconds)
    assert not made
