"""Whether main memory holds a model of llama.cpp and its caches, before they are taken.

It must never allocate anything: an estimate that is too small ends a board by the kernel's hand.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from edge_agent.draft_model.llama_binding import llama_cpp
from shared.daemon.resources.main_memory import free_main_memory, gib
from shared.errors import ModelError

_PART_NAME = re.compile(r"(.+)-00001-of-([0-9]{5})\.gguf")
_CACHED_VALUE_BYTES = 2  # llama.cpp keeps keys and values in float16
_MAX_VALUE_LENGTH = 32  # of a number in a model's metadata


def check_weight_memory(path: Path) -> None:
    """The model file, with all its parts, fits into main memory.

    Raises:
        ModelError: it does not, or a part is missing.
    """
    try:
        num_bytes = sum(part.stat().st_size for part in model_parts(path))
    except OSError as error:
        raise ModelError(
            f"cannot read the model file {error.filename}: {error.strerror}"
        ) from error
    free_bytes = free_main_memory()
    if free_bytes is not None and num_bytes > free_bytes:
        raise ModelError(
            f"the weights of {path} take {gib(num_bytes)}, {gib(free_bytes)} of main memory are "
            "free; take a smaller draft.model"
        )


def check_cache_memory(model: llama_cpp.llama_model_p | None, num_tokens: int) -> None:
    """The caches of all slots, of so many tokens together, fit beside the weights.

    Raises:
        ModelError: they do not.
    """
    assert model is not None
    num_bytes = num_tokens * cached_token_bytes(model)
    free_bytes = free_main_memory()
    if free_bytes is None:
        return
    # The weights are mapped, and a part of them may not have been read yet.
    free_bytes -= llama_cpp.llama_model_size(model)
    if num_bytes > free_bytes:
        raise ModelError(
            f"the caches of all slots take {gib(num_bytes)}, {gib(max(0, free_bytes))} of main "
            "memory are free beside the weights; lower draft.context_tokens or draft.max_streams"
        )


def model_parts(path: Path) -> list[Path]:
    """A split file has its other parts beside it; llama.cpp reads them by itself."""
    match = _PART_NAME.fullmatch(path.name)
    if match is None:
        return [path]
    count = match[2]
    return [path.with_name(f"{match[1]}-{i + 1:05}-of-{count}.gguf") for i in range(int(count))]


def cached_token_bytes(model: llama_cpp.llama_model_p) -> int:
    """Of keys and values in all layers, as if all were full attention."""
    num_heads = max(1, llama_cpp.llama_model_n_head(model))
    head_size = llama_cpp.llama_model_n_embd(model) // num_heads
    architecture = metadata(model, "general.architecture")
    sizes = (
        metadata(model, f"{architecture}.attention.{part}_length") for part in ("key", "value")
    )
    head_values = sum(int(size) if size.isdigit() else head_size for size in sizes)
    num_kv_heads: int = llama_cpp.llama_model_n_head_kv(model)
    num_layers: int = llama_cpp.llama_model_n_layer(model)
    return _CACHED_VALUE_BYTES * num_layers * num_kv_heads * head_values


def metadata(model: llama_cpp.llama_model_p, key: str) -> str:
    """A short value of the model's metadata as text; empty where there is none."""
    value = ctypes.create_string_buffer(_MAX_VALUE_LENGTH)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), value, _MAX_VALUE_LENGTH)
    return value.value.decode(errors="replace") if length >= 0 else ""
