"""A draft that is there, from its GGUF file, to be aligned with a target.

It must never change which tokens its ids mean: those that it shares with the target are equal, and
it learns the others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.errors import ModelError
from verifier.finetune.llama.gguf_target import UNEMBEDDING, llama_shape, read_target
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.recipe.draft_shape import BLOCK_WEIGHTS, DraftShape
from verifier.torch_target.loading.draft_fit import check_draft_fits
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary
from verifier.torch_target.model_files.gguf_parts import read_gguf_model


def existing_draft_shape(path: Path) -> DraftShape:
    """Its sizes, from the head of its file.

    Raises:
        ModelError: it is no such model, or cannot be kept in blocks of 32.
    """
    files = read_gguf_model(path)
    shape = llama_shape(files.parts[0])
    inputs = {"width": shape.hidden, "ffn": shape.ffn, "heads": shape.heads * shape.head_size}
    for name, size in inputs.items():
        if size % BLOCK_WEIGHTS:
            raise ModelError(
                f"{path}: its {name} {size} is no multiple of {BLOCK_WEIGHTS}, as a file of "
                "blocks needs"
            )
    return DraftShape(
        hidden=shape.hidden,
        layers=shape.layers,
        ffn=shape.ffn,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_size=shape.head_size,
        is_tied=UNEMBEDDING not in {tensor.name for tensor in files.tensors},
    )


def check_existing_draft(path: Path, target_path: Path) -> None:
    """Ids that both have mean the same bytes.

    Raises:
        ModelError: one does not; the sentence names it.
    """
    try:
        check_draft_fits(path, read_gguf_vocabulary(target_path).token_bytes)
    except ModelError as error:
        raise ModelError(f"{path} cannot draft for {target_path}: {error}") from error


def read_existing_draft(path: Path, target_path: Path, vocab_size: int) -> LlamaModel:
    """The draft in main memory, in float32, with as many tokens as the target has.

    Raises:
        ModelError: the file is broken, of another architecture, or an id means something else.
    """
    check_existing_draft(path, target_path)
    model = read_target(path)
    model.embedding = _with_tokens(model.embedding, vocab_size)
    if model.unembedding is not None:
        model.unembedding = _with_tokens(model.unembedding, vocab_size)
    model.shape = replace(model.shape, vocab_size=vocab_size)
    return model


def _with_tokens(rows: Tensor, vocab_size: int) -> nn.Parameter:
    """Rows of tokens that the draft did not have begin as the mean of those that it has."""
    missing = vocab_size - len(rows)
    if missing > 0:
        rows = torch.cat([rows, rows.mean(0, keepdim=True).expand(missing, -1)])
    return nn.Parameter(rows[:vocab_size].contiguous())
