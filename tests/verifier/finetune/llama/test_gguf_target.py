"""Targets from GGUF files compute what llama.cpp computes, and what is not known is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.llama_drafter import LlamaDrafter
from shared.errors import ModelError
from tests.support.models.tiny_gguf import write_tiny_llama
from verifier.finetune.llama.gguf_target import read_target
from verifier.finetune.llama.llama_model import LlamaModel, final_states

TEXT = (5, 17, 200, 3, 44, 120, 7)


def logits_of(model: LlamaModel, token_ids: tuple[int, ...]) -> torch.Tensor:
    """Of all positions, by float32 weights [num_tokens, vocab_size]."""
    weights = model.weights(torch.float32)
    rotation = model.rotation(len(token_ids), torch.float32)
    states = final_states(model.shape, weights, rotation, torch.tensor([token_ids]))
    return states[0] @ weights.unembedding.T


def logits_of_llama(path: Path, token_ids: tuple[int, ...]) -> np.ndarray:
    """Of the last position."""
    drafter = LlamaDrafter(path, 1, 64, 1, 1)
    try:
        (row,) = drafter.forward([Forward(0, token_ids, wants_logits=True)])
    finally:
        drafter.close()
    assert row is not None
    return row.copy()


def test_logits_are_those_of_llama_cpp(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "target.gguf")
    ours = logits_of(read_target(tmp_path / "target.gguf"), TEXT)[-1].detach().numpy()
    theirs = logits_of_llama(tmp_path / "target.gguf", TEXT)
    assert np.abs(ours - theirs).max() < 0.02 * theirs.std()


def test_a_target_without_an_output_of_its_own_has_a_tied_one(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "target.gguf", without=("output.weight",))
    assert read_target(tmp_path / "target.gguf").unembedding is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"architecture": "mistral"}, "architecture mistral"),
        ({"without": ("blk.1.attn_q.weight",)}, "no tensor blk.1.attn_q.weight"),
        ({"spare_tokens": 3}, "307 tokens have a name, and 304 an embedding"),
        (
            {"edit": lambda w: w.add_tensor("blk.0.attn_q.bias", np.ones(64, np.float32))},
            "blk.0.attn_q.bias, which a plain llama has not",
        ),
    ],
    ids=["architecture", "tensor missing", "vocabulary", "tensor unknown"],
)
def test_what_is_not_known_is_refused(
    tmp_path: Path, change: dict[str, Callable[..., None]], sentence: str
) -> None:
    write_tiny_llama(tmp_path / "target.gguf", **change)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=sentence):
        read_target(tmp_path / "target.gguf")
