"""The draft model's file, as it lies there."""

from __future__ import annotations

from pathlib import Path

from edge_agent.config import DraftSection
from edge_agent.doctor.model_probe import family, look_at_model, made_for, memory_need
from edge_agent.draft_model.llama_outline import ModelOutline
from edge_agent.models.presets import DEFAULT_MODEL
from tests.support.models.real_models import real_model
from tests.support.models.tiny_gguf import write_tiny_llama


def test_a_path_without_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    facts, outline = look_at_model(DraftSection(model=str(path)), tmp_path)
    assert outline is not None
    assert (None, False, False) == (facts.fault, facts.has_checksum, facts.can_be_pulled)
    assert path.stat().st_size == facts.file_bytes


def test_a_known_model(tmp_path: Path) -> None:
    path = real_model()
    facts, outline = look_at_model(DraftSection(model=DEFAULT_MODEL), path.parent)
    assert outline is not None
    assert (None, True, "Q4_1") == (facts.fault, facts.has_checksum, facts.quantisation)


def test_a_model_that_was_not_pulled(tmp_path: Path) -> None:
    facts, outline = look_at_model(DraftSection(model=DEFAULT_MODEL), tmp_path)
    assert outline is None
    assert facts.can_be_pulled
    assert facts.fault is not None
    assert f"goodspeed-agent model pull {DEFAULT_MODEL}" in facts.fault


def test_a_file_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    path.write_bytes(path.read_bytes()[:-100])
    facts, outline = look_at_model(DraftSection(model=str(path)), tmp_path)
    assert outline is None
    assert facts.fault is not None
    assert "is not whole" in facts.fault


def test_no_model_at_all(tmp_path: Path) -> None:
    facts, outline = look_at_model(DraftSection(model=""), tmp_path)
    assert (None, None) == (facts.fault, outline)


def test_caches_are_as_long_as_the_model_allows() -> None:
    outline = ModelOutline("llama", "Q4_0", None, 1000, cached_token_bytes=10, trained_tokens=512)
    assert 2 * 512 * 10 == memory_need(outline, DraftSection(max_streams=2)).caches
    short = DraftSection(max_streams=2, context_tokens=128)
    assert 2 * 128 * 10 == memory_need(outline, short).caches


def test_the_family_are_quantisations_that_are_here(tmp_path: Path) -> None:
    q4_0, q2_k = f"{DEFAULT_MODEL}-q4_0", f"{DEFAULT_MODEL}-q2_k"
    (tmp_path / f"{q4_0}.gguf").touch()
    assert (q4_0,) == family(DEFAULT_MODEL, tmp_path)
    assert (q4_0,) == family(q2_k, tmp_path)
    assert () == family("./mine.gguf", tmp_path)


def test_a_draft_that_was_made_for_the_model_is_of_its_family(tmp_path: Path) -> None:
    (tmp_path / "smollm2-18m.gguf").touch()
    assert ("smollm2-18m",) == family(DEFAULT_MODEL, tmp_path)
    (tmp_path / f"{DEFAULT_MODEL}.gguf").touch()
    assert (DEFAULT_MODEL,) == family("smollm2-18m", tmp_path)
    assert () == family("qwen3-0.6b", tmp_path)


def test_a_draft_that_was_made_for_the_model_can_be_pulled_if_it_is_not_here(
    tmp_path: Path,
) -> None:
    assert "smollm2-18m" == made_for(DEFAULT_MODEL, tmp_path)
    assert "smollm2-18m" == made_for(f"{DEFAULT_MODEL}-q2_k", tmp_path)
    assert made_for(DEFAULT_MODEL, tmp_path, shipped=tmp_path) is None  # an installed wheel
    for name in ("smollm2-18m", "qwen3-0.6b", "./mine.gguf"):
        assert made_for(name, tmp_path) is None
    (tmp_path / "smollm2-18m.gguf").touch()
    assert made_for(DEFAULT_MODEL, tmp_path) is None
