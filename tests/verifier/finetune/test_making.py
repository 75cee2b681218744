"""From a target to a draft: it learns, its file is whole, and interrupted runs go on."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.llama_drafter import LlamaDrafter
from shared.errors import ModelError, RequestRefused
from shared.protocol.fingerprint import fingerprint
from shared.protocol.held_out_texts import unpack_texts
from tests.support.models.distilled_drafts import TickingClock, Told, tiny_order
from verifier.finetune.making import make_draft
from verifier.finetune.training.training_loop import TrainingLoop
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary


def kl_of(told: Told) -> list[float]:
    found = (re.search(r"KL ([\d.]+)", sentence) for sentence in told.sentences)
    return [float(match[1]) for match in found if match]


def test_a_draft_is_made_that_llama_cpp_runs_and_handshakes_accept(tmp_path: Path) -> None:
    order, told = tiny_order(tmp_path), Told()
    make_draft(order, told, TickingClock())
    losses = kl_of(told)
    assert losses[-1] < 0.8 * losses[0]
    drafter = LlamaDrafter(order.out, 1, 64, 1, 1)
    try:
        (row,) = drafter.forward([Forward(0, (5, 6, 7), wants_logits=True)])
        assert row is not None
        assert np.isfinite(row).all()
        target_bytes = read_gguf_vocabulary(order.target).token_bytes
        assert fingerprint(target_bytes) == fingerprint(drafter.token_bytes)
    finally:
        drafter.close()
    texts = unpack_texts(order.texts_path.read_bytes(), "draft.texts")
    assert {("first", mode) for mode in ("greedy", "0.8", "1")} <= {
        (text.domain, text.mode) for text in texts.texts
    }
    assert not order.work_dir.exists()


def test_an_interrupted_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, told = tiny_order(tmp_path), Told()

    def stopped(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "reported", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_draft(order, told, TickingClock())
    assert not order.out.exists()
    assert (order.work_dir / "student").exists()
    other = msgspec.structs.replace(order, recipe=msgspec.structs.replace(order.recipe, seed=5))
    with pytest.raises(RequestRefused, match="unfinished run with other options"):
        make_draft(other, told, TickingClock())
    again = Told()
    make_draft(order, again, TickingClock())
    assert any(sentence.startswith("going on at") for sentence in again.sentences)
    assert not any("answers" in stage for stage in again.stages)
    assert order.out.exists()


def test_a_checkpoint_that_is_broken_is_told(tmp_path: Path) -> None:
    order = tiny_order(tmp_path)
    order.work_dir.mkdir()
    (order.work_dir / "texts").write_bytes(b"no texts")
    with pytest.raises(ModelError, match="delete it to begin anew"):
        make_draft(order, Told(), TickingClock())


def test_too_little_memory_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verifier.finetune.target_texts.free_main_memory", lambda: 1 << 20)
    with pytest.raises(ModelError, match=r"GiB of memory, and 0\.0 are free"):
        make_draft(tiny_order(tmp_path), Told(), TickingClock())


def test_a_draft_of_four_bits_is_trained_with_its_rounding(tmp_path: Path) -> None:
    order, told = tiny_order(tmp_path, weights="Q4_0"), Told()
    make_draft(order, told, TickingClock())
    losses = kl_of(told)
    assert losses[-1] < 0.9 * losses[0]
