"""Rows of an embedding from its file are those that transformers loads from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.models.real_models import real_model
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.models.tiny_models import tiny_gemma3, tiny_llama
from verifier.torch_target.loading.embedding_rows import embedding_rows
from verifier.torch_target.loading.model_reading import (
    ModelFiles,
    find_model,
    quiet_reading,
    read_config,
    read_model,
)

_TOKEN_IDS = torch.tensor([0, 7, 90, 7])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shards", [1, 3])
def test_of_safetensors(tmp_path: Path, dtype: torch.dtype, shards: int) -> None:
    model = tiny_llama().to(dtype)
    num_bytes = sum(parameter.nbytes for parameter in model.parameters())
    model.save_pretrained(tmp_path, max_shard_size=num_bytes // shards + 1)
    read_rows = embedding_rows(ModelFiles(tmp_path, None))
    assert read_rows is not None
    weight = model.get_input_embeddings().weight
    assert torch.equal(weight[_TOKEN_IDS], read_rows(_TOKEN_IDS))


def test_of_safetensors_under_a_longer_name(tmp_path: Path) -> None:
    model = tiny_gemma3()
    model.save_pretrained(tmp_path)
    read_rows = embedding_rows(ModelFiles(tmp_path, None))
    assert read_rows is not None
    assert torch.equal(model.get_input_embeddings().weight[_TOKEN_IDS], read_rows(_TOKEN_IDS))


def test_of_a_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    _check(path)


def test_of_quantised_rows() -> None:
    _check(real_model())


def test_a_directory_without_an_embedding_has_none(tmp_path: Path) -> None:
    assert embedding_rows(ModelFiles(tmp_path, None)) is None


def _check(path: Path) -> None:
    files = find_model(path)
    with quiet_reading(files):
        model = read_model(files, read_config(files), torch.float32)
        read_rows = embedding_rows(files)
    assert read_rows is not None
    rows = read_rows(_TOKEN_IDS)
    assert torch.equal(model.get_input_embeddings().weight[_TOKEN_IDS], rows)
