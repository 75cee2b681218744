"""A person is told what part of a GPU's peak a training reaches, and else where the time goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.models.distilled_drafts import TickingClock, Told, tiny_order
from verifier.finetune.making import make_draft

PLACE = "verifier.finetune.told_training"


@pytest.mark.parametrize(("peak", "is_told"), [(1e3, False), (1e18, True)], ids=["fast", "slow"])
def test_where_the_time_goes_is_told_where_products_are_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peak: float, is_told: bool
) -> None:
    def shares(run: Callable[[], None]) -> dict[str, float]:
        run()
        return {"products": 0.75, "attention": 0.25}

    monkeypatch.setattr(f"{PLACE}._peak", lambda device: peak)
    monkeypatch.setattr(f"{PLACE}.kernel_shares", shares)
    told = Told()
    make_draft(tiny_order(tmp_path), told, TickingClock())
    assert any("% of the peak in bfloat16" in sentence for sentence in told.sentences)
    words = "of a step's time on the GPU: products 75 %, attention 25 %"
    assert is_told == (words in told.sentences)


def test_of_a_processor_no_peak_is_made_up(tmp_path: Path) -> None:
    told = Told()
    make_draft(tiny_order(tmp_path), told, TickingClock())
    assert not any("of the peak" in sentence for sentence in told.sentences)
