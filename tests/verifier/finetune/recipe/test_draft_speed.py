"""A draft is as large as its board still runs fast enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.finetune.recipe.draft_shape import parse_shape
from verifier.finetune.recipe.draft_speed import (
    BOARDS,
    BoardSpeed,
    fitting_shape,
    measured_board,
)

VOCABULARY = 49_152


@given(st.floats(1e8, 1e12), st.floats(1.0, 1e4))
def test_the_largest_shape_that_is_fast_enough_is_taken(bandwidth: float, wanted: float) -> None:
    board = BoardSpeed(bandwidth)
    found = fitting_shape(board, VOCABULARY, "Q4_0", wanted)
    faster = fitting_shape(board, VOCABULARY, "Q4_0", 1.5 * wanted)
    assert faster.shape.num_parameters(VOCABULARY) <= found.shape.num_parameters(VOCABULARY)
    smallest = fitting_shape(board, VOCABULARY, "Q4_0", float("inf")).shape
    assert found.tokens_per_second >= wanted or smallest == found.shape


def test_a_measured_board_runs_what_it_was_measured_with_as_fast() -> None:
    shape = parse_shape("576x30x1536")
    num_bytes = shape.file_bytes(VOCABULARY, "Q8_0")
    board = measured_board(70.0, num_bytes, shape.layers)
    assert board.tokens_per_second(shape, VOCABULARY, "Q8_0") == pytest.approx(70.0)


def test_slower_boards_and_wider_weights_get_smaller_drafts() -> None:
    sizes = [
        fitting_shape(BOARDS[name], VOCABULARY, "Q4_0", 400.0).shape.matrix_weights
        for name in ("pi4", "pi5")
    ]
    assert sizes[0] < sizes[1]
    wide = fitting_shape(BOARDS["pi5"], VOCABULARY, "Q8_0", 400.0).shape.matrix_weights
    assert wide < sizes[1]


def test_a_gpu_whose_layers_take_long_does_not_gain_by_width_alone() -> None:
    board = BOARDS["jetson-agx-orin"]
    shallow, deep = parse_shape("256x4x640"), parse_shape("256x8x640")
    speeds = [board.tokens_per_second(shape, VOCABULARY, "Q4_0") for shape in (shallow, deep)]
    assert speeds[0] > 1.8 * speeds[1]


def test_a_board_that_is_too_slow_for_any_draft_is_told_so() -> None:
    found = fitting_shape(BOARDS["pi4"], VOCABULARY, "Q8_0", 5000.0)
    assert "fewer than the 5000 wanted" in str(found)
