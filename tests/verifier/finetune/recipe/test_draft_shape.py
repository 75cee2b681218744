"""Shapes are written as people say them."""

from __future__ import annotations

import pytest

from shared.errors import RequestRefused
from verifier.finetune.recipe.draft_shape import DraftShape, parse_shape


def test_a_shape_says_width_layers_and_ffn() -> None:
    shape = parse_shape("256x8x640")
    assert DraftShape(256, 8, 640, heads=4, kv_heads=2) == shape
    assert "256x8x640" == str(shape)
    assert 768 == parse_shape("256x8").ffn


def test_a_file_of_four_bits_has_nine_sixteenths_of_a_byte_a_weight() -> None:
    shape = parse_shape("256x8x640")
    weights = 49_152 * 256 + 8 * (2 * 256 * 64 * 6 + 3 * 256 * 640) + 17 * 256
    assert weights == shape.num_parameters(49_152)
    assert int(weights * 4.5 / 8) == shape.file_bytes(49_152, "Q4_0")


@pytest.mark.parametrize("written", ["", "256", "256x", "250x8", "256x8x100", "96x2", "256x0"])
def test_what_no_draft_can_have_is_refused(written: str) -> None:
    with pytest.raises(RequestRefused, match="--shape"):
        parse_shape(written)
