"""Drafts that come with the repository are whole, and pulled like any other."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from edge_agent.draft_model.llama_outline import read_outline
from edge_agent.models.presets import PRESETS, ShippedModel
from edge_agent.models.pull import pull
from edge_agent.models.shipped import SHIPPED_DRAFTS, copy_shipped
from shared.errors import ModelError
from tests.edge_agent.models.test_pull import RecordedProgress
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary

MOST_BYTES = 12_000_000
SHIPPED = [preset for preset in PRESETS.values() if isinstance(preset, ShippedModel)]


@pytest.mark.parametrize("preset", SHIPPED, ids=lambda preset: preset.name)
def test_each_is_there_small_and_the_file_that_its_checksum_says(preset: ShippedModel) -> None:
    path = SHIPPED_DRAFTS / f"{preset.name}.gguf"
    assert preset.size_bytes == path.stat().st_size <= MOST_BYTES
    assert preset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "llama" == read_outline(path).architecture
    assert 49_152 == len(read_gguf_vocabulary(path).token_bytes)
    recipes = (SHIPPED_DRAFTS / "README.md").read_text(encoding="utf-8")
    assert preset.sha256 in recipes


def test_nothing_else_lies_beside_them() -> None:
    names = {f"{preset.name}.gguf" for preset in SHIPPED} | {"README.md"}
    assert names == {path.name for path in SHIPPED_DRAFTS.iterdir()}


def test_pull_copies_it_into_the_cache(tmp_path: Path) -> None:
    path = pull(SHIPPED[0].name, tmp_path, RecordedProgress())
    assert tmp_path == path.parent
    assert SHIPPED[0].size_bytes == path.stat().st_size


def test_a_file_that_was_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{SHIPPED[0].name}.gguf").write_bytes(b"GGUF")

    def changed(preset: ShippedModel, to: Path) -> None:
        copy_shipped(preset, to, tmp_path)

    monkeypatch.setattr("edge_agent.models.pull.copy_shipped", changed)
    with pytest.raises(ModelError, match="is not whole"):
        pull(SHIPPED[0].name, tmp_path / "cache", RecordedProgress())


def test_outside_of_a_checkout_it_is_told_where_to_get_it(tmp_path: Path) -> None:
    unknown = msgspec.structs.replace(SHIPPED[0], name="other")
    with pytest.raises(ModelError, match="pull it from a verifier that offers it"):
        copy_shipped(unknown, tmp_path / "other.gguf", tmp_path)
