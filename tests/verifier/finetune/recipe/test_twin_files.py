"""A file of 4 bits goes out only where one of 8 bits is hardly better."""

from __future__ import annotations

from shared.protocol.held_out_texts import JudgedMode
from verifier.finetune.recipe.twin_files import TwinFiles

EIGHT: dict[JudgedMode, float] = {"greedy": 0.7, "0.8": 0.6, "1": 0.5}


def less(mode: JudgedMode, loss: float) -> dict[JudgedMode, float]:
    return {**EIGHT, mode: EIGHT[mode] - loss}


def test_four_bits_that_hold_are_taken() -> None:
    twins = TwinFiles(less("0.8", 0.019), EIGHT)
    assert "Q4_0" == twins.weights
    assert "0.8 0.581 / 0.600" in str(twins)


def test_four_bits_that_lose_in_one_mode_are_not() -> None:
    twins = TwinFiles(less("1", 0.021), EIGHT)
    assert "Q8_0" == twins.weights
    assert "4 bits lose 0.021 at most, of 0.02 allowed: written in 8 bits" in str(twins)


def test_four_bits_that_were_not_judged_are_not() -> None:
    twins = TwinFiles({}, {})
    assert "Q8_0" == twins.weights
    assert "no held-out text" in str(twins)
