"""What a file holds, without loading it; a file that is cut anywhere is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.draft_model.llama_outline import read_outline
from shared.errors import ModelError
from tests.support.models.real_models import real_model
from tests.support.models.tiny_gguf import write_tiny_llama


def test_the_real_model() -> None:
    outline = read_outline(real_model())
    assert ("llama", "Q4_1", "apache-2.0") == (
        *(outline.architecture, outline.quantisation, outline.licence),
    )
    assert 98_362_432 == outline.file_bytes
    assert 2 * 30 * 3 * 2 * 64 == outline.cached_token_bytes


def test_all_parts_of_a_split_file_count(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf", tensors_per_part=8)
    parts = sorted(tmp_path.glob("*.gguf"))
    outline = read_outline(parts[0])
    assert 3 == len(parts)
    assert sum(part.stat().st_size for part in parts) == outline.file_bytes
    assert outline.licence is None


@pytest.mark.parametrize("kept", [0, 3, 20, 1000, 0.5, 0.99])
def test_a_file_that_is_cut_is_refused(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept >= 1 or not kept else kept * len(whole))])
    with pytest.raises(ModelError, match=r"is not (whole|a GGUF file)"):
        read_outline(path)


def test_the_last_byte_counts(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="is not whole"):
        read_outline(path)
