"""Targets from GGUF files compute what llama.cpp computes, and what is not known is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
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


def qwen2(writer: gguf.GGUFWriter) -> None:
    """What Qwen2 has beside the tensors of LLaMA; queries, keys and values are shifted."""
    chance = np.random.default_rng(6)
    for layer in range(2):
        for name, size in (("q", 64), ("k", 32), ("v", 32)):
            shift = chance.standard_normal(size).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.attn_{name}.bias", shift)


def qwen3(writer: gguf.GGUFWriter) -> None:
    """What Qwen3 has: norms of each head."""
    chance = np.random.default_rng(6)
    for layer in range(2):
        for name in ("q", "k"):
            norm = chance.uniform(0.5, 2.0, 16).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.attn_{name}_norm.weight", norm)


KIN = {"qwen2": qwen2, "qwen3": qwen3}


@pytest.mark.parametrize("architecture", KIN)
def test_logits_of_its_kin_are_those_of_llama_cpp(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "target.gguf"
    write_tiny_llama(path, architecture=architecture, edit=KIN[architecture])
    ours = logits_of(read_target(path), TEXT)[-1].detach().numpy()
    theirs = logits_of_llama(path, TEXT)
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
