"""Looks at the draft model's file: where it is, whether it is whole, what it takes.

It must never load the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_agent.config import DraftSection
from edge_agent.doctor.board_findings import MemoryNeed
from edge_agent.doctor.model_findings import ModelFacts
from edge_agent.draft_model.llama_outline import ModelOutline, read_outline
from edge_agent.models.presets import (
    PRESETS,
    Preset,
    RequantisedModel,
    ShippedModel,
    expected_sha256,
    locate,
    resolve,
)
from edge_agent.models.shipped import SHIPPED_DRAFTS
from shared.errors import ModelError


def look_at_model(
    draft: DraftSection, cache_dir: Path, presets: Mapping[str, Preset] = PRESETS
) -> tuple[ModelFacts, ModelOutline | None]:
    """The model of the settings; without an outline it cannot be used."""
    name = draft.model
    if not name:
        return ModelFacts(name), None
    preset = presets.get(name)
    try:
        path = resolve(name, cache_dir, presets)
        outline = read_outline(path)
    except ModelError as error:
        return ModelFacts(name, fault=str(error), can_be_pulled=preset is not None), None
    facts = ModelFacts(
        name,
        has_checksum=expected_sha256(preset, path) is not None,
        quantisation=outline.quantisation,
        file_bytes=outline.file_bytes,
    )
    return facts, outline


def memory_need(outline: ModelOutline, draft: DraftSection) -> MemoryNeed:
    """What the model and the caches of all its slots take."""
    slot_tokens = min(draft.context_tokens, outline.trained_tokens)
    return MemoryNeed(
        weights=outline.file_bytes,
        caches=draft.max_streams * slot_tokens * outline.cached_token_bytes,
    )


def family(name: str, cache_dir: Path, presets: Mapping[str, Preset] = PRESETS) -> tuple[str, ...]:
    """What is in the cache: other quantisations of a model, and drafts that were made for it."""
    if name not in presets:
        return ()
    root = _root(presets[name])
    return tuple(
        preset.name
        for preset in presets.values()
        if preset.name != name and _root(preset) == root and _is_here(preset, cache_dir, presets)
    )


def made_for(
    name: str,
    cache_dir: Path,
    presets: Mapping[str, Preset] = PRESETS,
    shipped: Path = SHIPPED_DRAFTS,
) -> str | None:
    """A draft that was made for this model and could be pulled, if none is in the cache."""
    if name not in presets or isinstance(presets[name], ShippedModel):
        return None
    root = _root(presets[name])
    made = [p for p in presets.values() if isinstance(p, ShippedModel) and _root(p) == root]
    if any(_is_here(preset, cache_dir, presets) for preset in made):
        return None
    return next((p.name for p in made if (shipped / f"{p.name}.gguf").is_file()), None)


def _root(preset: Preset) -> str:
    match preset:
        case RequantisedModel():
            return preset.source_name
        case ShippedModel():
            return preset.targets.lower()
        case _:
            return preset.name


def _is_here(preset: Preset, cache_dir: Path, presets: Mapping[str, Preset]) -> bool:
    try:
        locate(preset.name, cache_dir, presets)
    except ModelError:
        return False
    return True
