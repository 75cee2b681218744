"""All tokens that end a text, by a model's own settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from verifier.torch_target.model_files.gguf_parts import GgufModel

# What ends a text, a turn, and a message to a tool.
_GGUF_KEYS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))


def end_ids(model: Any, gguf_model: GgufModel | None) -> frozenset[int]:
    """Of the generation settings, the configuration and the GGUF file, if it is one."""
    found = {
        *_listed(model.generation_config.eos_token_id if model.generation_config else None),
        *_listed(getattr(model.config.get_text_config(), "eos_token_id", None)),
    }
    if gguf_model is not None:
        found |= end_ids_of_file(gguf_model)
    return frozenset(found)


def end_ids_of_file(gguf_model: GgufModel) -> frozenset[int]:
    """Those that a GGUF file names itself."""
    first = gguf_model.parts[0]
    return frozenset(i for key in _GGUF_KEYS if (i := first.number(key)) is not None)


def _listed(ids: int | list[int] | None) -> Iterator[int]:
    if isinstance(ids, int):
        yield ids
    elif ids is not None:
        yield from ids
