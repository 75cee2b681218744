"""A rank reads its part of every tensor; all parts together are the model, or it says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from shared.errors import ModelError
from tests.support.models.tiny_checkpoint import write_checkpoint
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.models.tiny_models import tiny_llama, tiny_qwen3
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.loading.model_reading import (
    find_model,
    outline,
    quiet_reading,
    read_config,
    read_model,
)
from verifier.torch_target.parallel.part_reading import RankParts
from verifier.torch_target.parallel.split import Split, rank_config

NUM_RANKS = 2


def part_of(path: Path, rank: int) -> Any:
    """A rank's model."""
    files = find_model(path)
    with quiet_reading(files):
        config = read_config(files)
        own = rank_config(config, NUM_RANKS)
        parts = RankParts(
            files.path,
            files.gguf,
            Split(rank, NUM_RANKS, HeadShape.of(config)),
            outline(own, torch.float32),
            torch.float32,
            is_tied=config.tie_word_embeddings,
        )
        return read_model(files, own, torch.float32, parts)


def whole_of(path: Path) -> Any:
    files = find_model(path)
    with quiet_reading(files):
        return read_model(files, read_config(files), torch.float32)


def put_together(name: str, parts: list[Tensor], whole: Tensor) -> Tensor:
    """As the names of tensors say; what is of another size than the whole one is a part."""
    if parts[0].shape == whole.shape:
        assert all(torch.equal(parts[0], part) for part in parts)
        return parts[0]
    is_summed = name.endswith(("o_proj.weight", "down_proj.weight"))
    return torch.cat(parts, dim=1 if is_summed else 0)[: len(whole)]


@pytest.mark.parametrize("kind", ["safetensors", "qk norms and a tied head", "gguf"])
def test_parts_together_are_the_model(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tiny.gguf"
    if kind == "gguf":
        write_tiny_llama(path)
    else:
        path = tmp_path
        model = tiny_llama() if kind == "safetensors" else tiny_qwen3()
        model.config.tie_word_embeddings = kind != "safetensors"
        model.tie_weights()
        write_checkpoint(model, path)
    whole = whole_of(path).state_dict()
    parts = [part_of(path, rank).state_dict() for rank in range(NUM_RANKS)]
    assert whole.keys() == parts[0].keys() == parts[1].keys()
    differing = [
        name
        for name, expected in whole.items()
        if not torch.equal(put_together(name, [part[name] for part in parts], expected), expected)
    ]
    assert [] == differing
    projections = [name for name in whole if "_proj.weight" in name]
    sizes = [sum(of[name].numel() for name in projections) for of in (whole, parts[0])]
    assert sizes[0] == NUM_RANKS * sizes[1]


def test_a_head_that_no_file_has_is_missing(tmp_path: Path) -> None:
    write_checkpoint(tiny_llama(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"it has no lm_head\.weight"):
        part_of(tmp_path, 0)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    write_checkpoint(tiny_llama(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name][:-2].clone()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"its {name} has the shape"):
        part_of(tmp_path, 1)
