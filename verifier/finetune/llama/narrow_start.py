"""Where a narrow draft starts: random layers, and the best small factor of the target's embedding.

The target's logits are H·Eᵀ with its final states H [texts, hidden] and its embedding E. With
C = HᵀH and C^½·Eᵀ = U·S·Vᵀ the best factor of rank h over the target's own texts is V_h·S_h: that
is the draft's embedding, and the state that it wants has unit covariance.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from verifier.finetune.llama.llama_model import LlamaModel, LlamaShape
from verifier.finetune.recipe.draft_shape import DraftShape


def narrow_draft(target: LlamaModel, shape: DraftShape, states: Tensor, seed: int) -> LlamaModel:
    """A draft of the target; `states` are final states of the target's texts [num, hidden]."""
    model = LlamaModel(draft_llama_shape(target.shape, shape), seed, is_tied=shape.is_tied)
    factor = _factor(target, states, shape.hidden)
    own = target.embedding if target.unembedding is None else target.unembedding
    # As large as the target's, so that one learning rate fits both; the last norm takes it back.
    scale = float(own.std()) / float(factor.std())
    with torch.no_grad():
        model.embedding.copy_(factor * scale)
        if model.unembedding is not None:
            model.unembedding.copy_(factor * scale)
        model.last_norm.fill_(1 / scale)
    return model.requires_grad_(True)


def draft_llama_shape(target: LlamaShape, shape: DraftShape) -> LlamaShape:
    """The draft's sizes with what it shares with its target."""
    return replace(
        target,
        architecture="llama",
        hidden=shape.hidden,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        ffn=shape.ffn,
        head_size=shape.head_size,
    )


def _factor(target: LlamaModel, states: Tensor, rank: int) -> Tensor:
    """[vocab_size, rank], the largest directions first."""
    own = target.embedding if target.unembedding is None else target.unembedding
    embedding = own.detach().double().cpu()
    states = states.double().cpu()
    values, vectors = torch.linalg.eigh(states.T @ states / len(states))
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    _, directions = torch.linalg.eigh(root @ (embedding.T @ embedding) @ root)
    if rank > embedding.shape[1]:  # a draft wider than its target: the rest starts at zero
        directions = torch.nn.functional.pad(directions, (rank - embedding.shape[1], 0))
    factor: Tensor = embedding @ root @ directions[:, -rank:].flip(1)
    return factor.float()
