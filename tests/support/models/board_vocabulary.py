"""What a board reads of the vocabulary in a GGUF file, without loading a model."""

from __future__ import annotations

from pathlib import Path

import llama_cpp

from edge_agent.draft_model.llama_library import error_lines
from edge_agent.draft_model.llama_vocabulary import read_token_bytes


def board_vocabulary(path: Path) -> tuple[bytes, ...]:
    """The bytes of every id, as llama.cpp has them."""
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    with error_lines() as errors:
        model = llama_cpp.llama_model_load_from_file(bytes(path), params)
    assert model is not None, errors
    try:
        vocab = llama_cpp.llama_model_get_vocab(model)
        assert vocab is not None
        return read_token_bytes(vocab)
    finally:
        llama_cpp.llama_model_free(model)
