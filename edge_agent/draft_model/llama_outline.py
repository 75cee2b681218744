"""What a GGUF file is, as llama.cpp reads it, without taking the memory of its weights.

It must never keep a model: who wants to draft loads it with `LlamaDrafter`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_agent.draft_model.llama_binding import llama_cpp
from edge_agent.draft_model.llama_library import check_magic, error_lines, reason
from edge_agent.draft_model.llama_memory import cached_token_bytes, metadata, model_parts
from shared.errors import ModelError


class ModelOutline(msgspec.Struct, frozen=True):
    """A whole file: the tensors that it names lie within it."""

    architecture: str  # llama, qwen3…
    quantisation: str  # of most weights: Q4_0, F16…
    licence: str | None  # None where the file does not tell
    file_bytes: int  # of all parts
    cached_token_bytes: int
    trained_tokens: int


def read_outline(path: Path) -> ModelOutline:
    """What is in the file.

    Raises:
        ModelError: it is missing, cut off or no model that llama.cpp knows.
    """
    check_magic(path)
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    params.no_alloc = True  # llama.cpp aborts the process where it would map the file, too
    params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    with error_lines() as errors:
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(bytes(path), params)
    if model is None:
        raise ModelError(f"{path} is not whole, or no model: {reason(errors)}")
    try:
        return _outline(model, path)
    finally:
        llama_cpp.llama_model_free(model)


def _outline(model: llama_cpp.llama_model_p, path: Path) -> ModelOutline:
    quantisation = llama_cpp.llama_ftype_name(llama_cpp.llama_model_ftype(model))
    return ModelOutline(
        architecture=metadata(model, "general.architecture"),
        # Where the file does not tell, llama.cpp goes by its tensors, and says so.
        quantisation=quantisation.decode(errors="replace").removeprefix("(guessed) "),
        licence=metadata(model, "general.license") or None,
        file_bytes=sum(part.stat().st_size for part in model_parts(path)),
        cached_token_bytes=cached_token_bytes(model),
        trained_tokens=llama_cpp.llama_model_n_ctx_train(model),
    )
