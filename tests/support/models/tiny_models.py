"""Random transformers models of a few thousand weights, one for each kind of attention."""

from __future__ import annotations

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB_SIZE = 97
_SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.5,  # logits that differ from each other
}


def tiny_llama(head_dim: int = 8, context_tokens: int = 256) -> PreTrainedModel:
    torch.manual_seed(0)
    shape = {**_SHAPE, "head_dim": head_dim, "max_position_embeddings": context_tokens}
    return LlamaForCausalLM(LlamaConfig(**shape)).eval()


def tiny_qwen3() -> PreTrainedModel:
    """Normalised queries and keys, and a sliding window in the upper layers."""
    torch.manual_seed(1)
    config = Qwen3Config(**_SHAPE, use_sliding_window=True, sliding_window=7, max_window_layers=1)
    return Qwen3ForCausalLM(config).eval()


def tiny_gemma3(head_dim: int = 8) -> PreTrainedModel:
    """Local and global layers with their own rotations, and soft-capped logits."""
    torch.manual_seed(2)
    layer_types = ["sliding_attention", "full_attention", "sliding_attention"]
    config = Gemma3TextConfig(
        **{**_SHAPE, "head_dim": head_dim},
        sliding_window=6,
        layer_types=layer_types,
        query_pre_attn_scalar=8,
        final_logit_softcapping=20.0,
    )
    return Gemma3ForCausalLM(config).eval()
