"""Random transformers models of a few thousand weights, one for each kind of attention."""

from __future__ import annotations

import torch
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    GptOssForCausalLM,
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


def tiny_qwen3(head_dim: int = 8) -> PreTrainedModel:
    """Normalised queries and keys, and a sliding window in the upper layers."""
    torch.manual_seed(1)
    config = Qwen3Config(
        **{**_SHAPE, "head_dim": head_dim},
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=1,
    )
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


def tiny_gemma2(head_dim: int = 8) -> PreTrainedModel:
    """Soft-capped scores of attention."""
    torch.manual_seed(3)
    config = Gemma2Config(
        **{**_SHAPE, "head_dim": head_dim},
        sliding_window=6,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=2.0,
    )
    return Gemma2ForCausalLM(config).eval()


def tiny_gpt_oss(head_dim: int = 8) -> PreTrainedModel:
    """Attention sinks, and experts."""
    torch.manual_seed(4)
    config = GptOssConfig(
        **{**_SHAPE, "head_dim": head_dim},
        sliding_window=6,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )
    return GptOssForCausalLM(config).eval()


def tiny_deepseek(head_dim: int = 8) -> PreTrainedModel:
    """Keys that are longer than values."""
    torch.manual_seed(5)
    config = DeepseekV3Config(
        **{**_SHAPE, "num_key_value_heads": 4, "head_dim": 8},
        q_lora_rank=None,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=head_dim,
        v_head_dim=head_dim,
        first_k_dense_replace=3,
    )
    return DeepseekV3ForCausalLM(config).eval()
