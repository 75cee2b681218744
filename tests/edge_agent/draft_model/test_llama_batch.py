"""Tokens of several slots in the flat arrays of llama.cpp."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.llama_batch import BatchArrays, Piece, split_batch


def test_a_long_item_is_cut_at_the_limit_and_shares_its_last_piece() -> None:
    batch = [Forward(0, (1, 2, 3)), Forward(1, (4, 5, 6, 7, 8, 9))]
    assert [
        [Piece(0, 0, 3), Piece(1, 0, 1)],
        [Piece(1, 1, 5)],
        [Piece(1, 5, 6)],
    ] == list(split_batch(batch, limit=4))


@given(st.lists(st.integers(1, 20), max_size=6), st.integers(1, 9))
def test_every_token_is_in_exactly_one_piece_in_order(lengths: list[int], limit: int) -> None:
    batch = [Forward(slot, tuple(range(length))) for slot, length in enumerate(lengths)]
    lists = list(split_batch(batch, limit))
    assert all(sum(piece.stop - piece.start for piece in pieces) <= limit for pieces in lists)
    assert [(slot, token) for slot, item in enumerate(batch) for token in item.token_ids] == [
        (piece.index, token)
        for pieces in lists
        for piece in pieces
        for token in range(piece.start, piece.stop)
    ]


def test_the_arrays_hold_tokens_positions_and_slots() -> None:
    arrays = BatchArrays(8)
    batch = [Forward(2, (7, 8)), Forward(0, (9,), wants_logits=False)]
    rows = arrays.fill(batch, [Piece(0, 0, 2), Piece(1, 0, 1)], held_tokens=[5, 0, 3])
    assert [(1, 0)] == rows
    assert 3 == arrays.num_tokens
    assert [7, 8, 9] == arrays.token_ids[:3].tolist()
    assert [3, 4, 5] == arrays.positions[:3].tolist()
    assert [2, 2, 0] == arrays.slots[:3].tolist()
    assert [0, 1, 0] == arrays.wants_logits[:3].tolist()
    assert [1] * 8 == arrays.num_slots.tolist()


def test_a_piece_that_does_not_end_its_item_wants_no_logits() -> None:
    arrays = BatchArrays(2)
    batch = [Forward(0, (7, 8, 9))]
    assert [] == arrays.fill(batch, [Piece(0, 0, 2)], held_tokens=[0])
    assert [(0, 0)] == arrays.fill(batch, [Piece(0, 2, 3)], held_tokens=[0])
    assert (2, 9, 1) == (arrays.positions[0], arrays.token_ids[0], arrays.wants_logits[0])
