"""A board's name, or what it was measured with, says how large a draft for a target may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ModelError
from tests.support.models.tiny_gguf import write_tiny_llama
from verifier.finetune.board_shape import shape_for_board


def test_a_board_that_was_measured_faster_gets_a_larger_draft(tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    write_tiny_llama(target)  # of 0.4 MB: these boards read 0.09 and 9 GB/s
    slow, fast = (
        shape_for_board((speed, target), target, "Q4_0", 400.0) for speed in (100.0, 10_000.0)
    )
    assert slow.shape.matrix_weights < fast.shape.matrix_weights
    assert fast.tokens_per_second >= 400.0


def test_a_known_board_needs_no_measurement(tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    write_tiny_llama(target)
    assert shape_for_board("pi5", target, "Q4_0", 400.0).tokens_per_second >= 400.0


def test_what_it_was_measured_with_must_be_a_model(tmp_path: Path) -> None:
    target, other = tmp_path / "target.gguf", tmp_path / "other.gguf"
    write_tiny_llama(target)
    other.write_bytes(b"no model")
    with pytest.raises(ModelError, match="not a GGUF file"):
        shape_for_board((50.0, other), target, "Q4_0", 400.0)
