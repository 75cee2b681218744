"""An embedding whose rows stay in the model's file, each read when a token asks for it.

Where head and embedding share a weight, the packed head (`packed_linear`) is all that a product
needs, and a second copy would serve for nothing but these few rows: 0.7 GB of float32 for the
262,144 ids of Gemma-3-270m. This module must never change a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ReadRows = Callable[[Tensor], Tensor]  # [n] int64 to [n, width], in whatever dtype a file has

_CHECKED_ROWS = 512  # spread over the vocabulary


def can_store(model: Any) -> bool:
    """Whether head and embedding of a model share one weight, so that packing copies it."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    return (
        isinstance(embedding, nn.Embedding)
        and type(head) is nn.Linear
        and head.weight is embedding.weight
    )


def store_embedding(embedding: nn.Embedding, read_rows: ReadRows) -> bool:
    """Let an embedding read its rows, if they are those that it has; False: they are not."""
    weight = embedding.weight.detach()
    if not _are_rows_of(weight, read_rows):
        return False
    dtype = weight.dtype
    # A plain attribute from now on: each call sets it to the rows that it needs.
    del embedding.weight
    embedding.weight = weight.new_empty(0, weight.shape[1])

    def fetch(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        token_ids = inputs[0]
        module.weight = read_rows(token_ids.flatten()).to(dtype)
        places = torch.arange(token_ids.numel(), device=token_ids.device)
        return (places.view(token_ids.shape), *inputs[1:])

    embedding.register_forward_pre_hook(fetch)
    embedding.padding_idx = None  # it would be one of the places
    return True


def _are_rows_of(weight: Tensor, read_rows: ReadRows) -> bool:
    num_rows = len(weight)
    token_ids = torch.linspace(0, num_rows - 1, min(num_rows, _CHECKED_ROWS)).to(torch.int64)
    try:
        rows = read_rows(token_ids)
    except IndexError:  # the model's vocabulary is padded beyond the file's
        return False
    return torch.equal(rows.to(weight.dtype), weight[token_ids])
