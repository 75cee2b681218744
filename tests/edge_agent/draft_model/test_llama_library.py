"""How llama.cpp is asked to load a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from edge_agent.draft_model import llama_library
from edge_agent.draft_model.llama_build import LlamaBuild
from shared.errors import ModelError


@pytest.mark.parametrize(
    ("features", "may_repack"), [({"AVX2"}, True), ({"AVX2", "AMX_INT8"}, False)]
)
def test_a_build_with_matrix_tiles_lays_no_weights_out_for_them(
    features: set[str], may_repack: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")

    def load(_: bytes, params: Any) -> None:
        asked.append(params)

    build = LlamaBuild(frozenset(features), has_gpu=False, version="0")
    monkeypatch.setattr(llama_library, "read_build", lambda: build)
    monkeypatch.setattr(llama_cpp, "llama_model_load_from_file", load)
    with pytest.raises(ModelError, match="no reason was given"):
        llama_library.load_model(path, gpu_layers=0)
    assert [may_repack] == [params.use_extra_bufts for params in asked]
