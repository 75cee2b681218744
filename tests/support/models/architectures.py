"""The decoder-only architectures of transformers that people run, each as a tiny configuration.

The test that greedy text is transformers' own and the table in `docs/architectures.md` are made
from this list: a row that is added here is tested and shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VOCAB_SIZE = 128
SHORT_CONTEXT = 24  # where the rotations of some rows change; streams grow beyond it
_NUM_LAYERS = 2
_SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": _NUM_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # logits that differ from each other
    "bos_token_id": 0,
    "eos_token_id": None,  # `generate` must not stop early
    "pad_token_id": 1,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_ROUTED_EXPERTS = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}
_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "head_dim": 8,
}
_SLIDING = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
_ROPE = {"rope_theta": 10_000.0}


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row: a configuration of few weights, and who runs models of its kind."""

    name: str
    model_type: str
    examples: str
    fields: Mapping[str, Any] = field(default_factory=dict)  # over those that all have
    refusal: str = ""  # why no target of it is served; empty: it is
    context_tokens: int = 128
    prompt_lengths: tuple[int, ...] = (5, 33, 19)

    @property
    def config_fields(self) -> dict[str, Any]:
        """What its configuration is made with."""
        return {**_SHAPE, **self.fields}


def _rope(rope_type: str, **parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, **_ROPE, **parameters}}


_LONG_ROPE = {
    "original_max_position_embeddings": SHORT_CONTEXT,
    **_rope(
        "longrope",
        short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
        long_factor=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
        original_max_position_embeddings=SHORT_CONTEXT,
        factor=256 / SHORT_CONTEXT,
    ),
}

_OWN_ATTENTION = (
    "only 0 of 2 layers of tiny keep keys and values with transformers' attention interface"
)

ARCHITECTURES = (
    Architecture("Llama", "llama", "Llama 2, TinyLlama, Vicuna, Yi, DeepSeek-R1-Distill-Llama"),
    Architecture(
        "Llama, llama3 rotations, tied",
        "llama",
        "Llama 3.1 / 3.2 / 3.3, SmolLM2",
        {
            "tie_word_embeddings": True,
            **_rope(
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=32,
            ),
        },
    ),
    Architecture("Llama, linear rotations", "llama", "LongChat", _rope("linear", factor=4.0)),
    Architecture(
        "Llama, yarn rotations",
        "llama",
        "Yarn-Llama-2",
        _rope("yarn", factor=8.0, original_max_position_embeddings=32),
    ),
    Architecture(
        "Llama, dynamic rotations", "llama", "InternLM2-style", _rope("dynamic", factor=2.0)
    ),
    Architecture("Llama, one key head", "llama", "Granite 20B-style", {"num_key_value_heads": 1}),
    Architecture("Mistral", "mistral", "Mistral 7B v0.1, Zephyr", {"sliding_window": 6}),
    Architecture(
        "Mistral, wide heads",
        "mistral",
        "Mistral 7B v0.3, Mistral-Nemo, Mistral Small, Devstral",
        {"sliding_window": None, "head_dim": 24},
    ),
    Architecture("Ministral", "ministral", "Ministral 8B", {**_SLIDING, "head_dim": 16}),
    Architecture("Mixtral", "mixtral", "Mixtral 8x7B / 8x22B", _LOCAL_EXPERTS),
    Architecture("Qwen2", "qwen2", "Qwen2, Qwen2.5, QwQ, DeepSeek-R1-Distill-Qwen"),
    Architecture(
        "Qwen2, sliding windows",
        "qwen2",
        "Qwen1.5 with windows",
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    Architecture(
        "Qwen2-MoE",
        "qwen2_moe",
        "Qwen1.5-MoE, Qwen2-57B-A14B",
        {**_EXPERTS, "shared_expert_intermediate_size": 48},
    ),
    Architecture("Qwen3", "qwen3", "Qwen3 0.6B to 32B", {"head_dim": 32}),
    Architecture(
        "Qwen3-MoE",
        "qwen3_moe",
        "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder",
        {**_EXPERTS, "head_dim": 32},
    ),
    Architecture("Gemma", "gemma", "Gemma 2B / 7B, CodeGemma", {"head_dim": 32}),
    Architecture(
        "Gemma 2",
        "gemma2",
        "Gemma 2 2B / 9B / 27B",
        {
            **_SLIDING,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 10.0,
        },
    ),
    Architecture(
        "Gemma 3",
        "gemma3_text",
        "Gemma 3 270M to 27B",
        {**_SLIDING, "head_dim": 32, "query_pre_attn_scalar": 32},
    ),
    Architecture("Phi", "phi", "Phi-1.5, Phi-2", {"partial_rotary_factor": 0.5}),
    Architecture("Phi-3", "phi3", "Phi-3-mini-4k, Phi-3-medium-4k, Phi-4", {"sliding_window": 6}),
    Architecture(
        "Phi-3, longrope rotations, short context",
        "phi3",
        "Phi-3-mini-128k, Phi-3.5-mini, Phi-4-mini",
        _LONG_ROPE,
        context_tokens=SHORT_CONTEXT,
        prompt_lengths=(5, 11, 3),
    ),
    Architecture(
        "Phi-3, longrope rotations, long context",
        "phi3",
        "the same with target.context_tokens above the original context",
        _LONG_ROPE,
        prompt_lengths=(SHORT_CONTEXT + 1, 40, 33),
    ),
    Architecture("PhiMoE", "phimoe", "Phi-3.5-MoE", {**_LOCAL_EXPERTS, "input_jitter_noise": 0.0}),
    Architecture(
        "SmolLM3", "smollm3", "SmolLM3 3B", {"no_rope_layers": [1, 0], "use_sliding_window": False}
    ),
    Architecture(
        "Granite",
        "granite",
        "Granite 3.0 to 3.3",
        {
            "attention_multiplier": 0.2,
            "logits_scaling": 4.0,
            "residual_multiplier": 0.5,
            "embedding_multiplier": 3.0,
        },
    ),
    Architecture("Granite-MoE", "granitemoe", "Granite 3 1B-A400M / 3B-A800M", _LOCAL_EXPERTS),
    Architecture("OLMo", "olmo", "OLMo 1B / 7B", {"clip_qkv": 1.0}),
    Architecture("OLMo 2", "olmo2", "OLMo 2 1B to 32B"),
    Architecture("OLMo 3", "olmo3", "OLMo 3 7B / 32B", _SLIDING),
    Architecture("OLMoE", "olmoe", "OLMoE 1B-7B", {**_EXPERTS}),
    Architecture("GLM-4", "glm", "GLM-4-9B, GLM-Edge", {"head_dim": 16}),
    Architecture("GLM-4-0414", "glm4", "GLM-4-9B-0414, GLM-Z1", {"head_dim": 16}),
    Architecture(
        "GLM-4-MoE", "glm4_moe", "GLM-4.5, GLM-4.6", {**_ROUTED_EXPERTS, "use_qk_norm": True}
    ),
    Architecture(
        "gpt-oss",
        "gpt_oss",
        "gpt-oss-20b, gpt-oss-120b",
        {**_SLIDING, **_LOCAL_EXPERTS, "head_dim": 16}
        | _rope("yarn", factor=8.0, original_max_position_embeddings=32, truncate=False),
    ),
    Architecture(
        "DeepSeek-V2",
        "deepseek_v2",
        "DeepSeek-V2-Lite, DeepSeek-Coder-V2-Lite",
        {**_ROUTED_EXPERTS, **_LATENT, "topk_method": "greedy"},
    ),
    Architecture(
        "DeepSeek-V3", "deepseek_v3", "DeepSeek-V3, DeepSeek-R1", {**_ROUTED_EXPERTS, **_LATENT}
    ),
    Architecture("Cohere", "cohere", "Command R, Aya 23", {"use_qk_norm": True}),
    Architecture("Cohere 2", "cohere2", "Command R7B, Command A", _SLIDING),
    Architecture("StarCoder 2", "starcoder2", "StarCoder2 3B / 7B / 15B", {"sliding_window": 6}),
    Architecture(
        "StableLM",
        "stablelm",
        "StableLM 2, StableLM Zephyr",
        refusal="does not hand the round on to its attention",
    ),
    Architecture("EXAONE 4", "exaone4", "EXAONE 4.0", _SLIDING),
    Architecture("ERNIE 4.5", "ernie4_5", "ERNIE 4.5 0.3B", {"head_dim": 16}),
    Architecture(
        "ERNIE 4.5 MoE",
        "ernie4_5_moe",
        "ERNIE 4.5 21B-A3B",
        {
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_intermediate_size": 32,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": 1,
        },
    ),
    Architecture("Hunyuan", "hunyuan_v1_dense", "Hunyuan 0.5B to 7B", {"head_dim": 16}),
    Architecture("Seed-OSS", "seed_oss", "Seed-OSS 36B", {"head_dim": 16}),
    Architecture("Apertus", "apertus", "Apertus 8B / 70B"),
    Architecture(
        "Nemotron",
        "nemotron",
        "Minitron, Nemotron-4",
        refusal="does not hand the round on to its attention",
    ),
    Architecture("GPT-NeoX", "gpt_neox", "Pythia", {"num_key_value_heads": None}),
    Architecture("GPT-2", "gpt2", "GPT-2", {"n_inner": 96, "num_key_value_heads": None}),
    Architecture(
        "OPT", "opt", "OPT", {"ffn_dim": 96, "word_embed_proj_dim": 64, "num_key_value_heads": None}
    ),
    Architecture(
        "Falcon",
        "falcon",
        "Falcon 7B / 40B",
        {"num_key_value_heads": None},
        refusal=_OWN_ATTENTION,
    ),
    Architecture("BLOOM", "bloom", "BLOOM", {"num_key_value_heads": None}, refusal=_OWN_ATTENTION),
    Architecture(
        "MPT",
        "mpt",
        "MPT-7B / 30B",
        {"d_model": 64, "n_heads": 4, "n_layers": 2, "num_key_value_heads": None},
        refusal=_OWN_ATTENTION,
    ),
    Architecture(
        "Gemma 3n", "gemma3n_text", "Gemma 3n E2B / E4B", refusal="its layers share keys and values"
    ),
    Architecture(
        "Gemma 4",
        "gemma4_text",
        "Gemma 4",
        {
            **_SLIDING,
            "head_dim": 16,
            "global_head_dim": 32,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCAB_SIZE,
        },
    ),
    Architecture(
        "Llama 4",
        "llama4_text",
        "Llama 4 Scout, Maverick",
        refusal="it has layers of the type chunked_attention",
    ),
    Architecture(
        "Qwen3-Next",
        "qwen3_next",
        "Qwen3-Next-80B-A3B",
        refusal="it has layers of the type linear_attention",
    ),
    Architecture(
        "Qwen3.5", "qwen3_5_text", "Qwen3.5", refusal="it has layers of the type linear_attention"
    ),
    Architecture(
        "LFM2",
        "lfm2",
        "LFM2 350M to 2.6B",
        {"layer_types": ["conv", "full_attention"]},
        refusal="it has layers of the type conv",
    ),
    Architecture(
        "Granite 4",
        "granitemoehybrid",
        "Granite 4.0-H",
        refusal="it has layers of the type linear_attention",
    ),
    Architecture("Mamba", "mamba", "Mamba", refusal="it has layers of the type linear_attention"),
    Architecture("Jamba", "jamba", "Jamba", refusal="it has layers of the type linear_attention"),
    Architecture("Falcon-H1", "falcon_h1", "Falcon-H1", refusal="it has layers of the type hybrid"),
    Architecture(
        "Nemotron-H",
        "nemotron_h",
        "Nemotron Nano 2",
        refusal="it has layers of the type linear_attention",
    ),
)
