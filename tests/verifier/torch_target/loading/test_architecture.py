"""Architectures that rounds over blocks cannot serve are refused before a word is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from shared.errors import ModelError
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.architecture import check_architecture
from verifier.torch_target.loading.placement import place_target


@pytest.mark.parametrize(
    ("config", "obstacle"),
    [
        (MambaConfig(), "mamba cannot be served: it has layers of the type linear_attention"),
        (
            Lfm2Config(num_hidden_layers=2, layer_types=["conv", "full_attention"]),
            "lfm2 cannot be served: it has layers of the type conv",
        ),
        (
            Gemma3TextConfig(use_bidirectional_attention=True),
            "gemma3_text cannot be served: its attention is not causal",
        ),
    ],
)
def test_what_a_configuration_tells_is_refused_by_name(config: Any, obstacle: str) -> None:
    with pytest.raises(ModelError) as raised:
        check_architecture(config)
    assert f"a target of type {obstacle}" == str(raised.value)


@pytest.mark.parametrize("config", [LlamaConfig(), Gemma2Config(), Gemma3TextConfig()])
def test_plain_decoders_are_accepted(config: Any) -> None:
    check_architecture(config)


def as_target(model: Any) -> TorchTarget:
    return place_target(
        model,
        CacheShape(num_blocks=2, block_tokens=4, context_tokens=8),
        device=torch.device("cpu"),
        dtype=torch.float32,
        model_name="odd",
    )


def test_a_model_with_attention_of_its_own_is_refused() -> None:
    config = FalconConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, eos_token_id=1,
        bos_token_id=1,
    )  # fmt: skip
    with pytest.raises(ModelError) as raised:
        as_target(FalconForCausalLM(config))
    expected = "only 0 of 2 layers of odd keep keys and values with transformers' attention"
    assert str(raised.value).startswith(expected)


def test_a_window_of_0_is_no_window() -> None:
    config = Qwen2MoeConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=16, moe_intermediate_size=16, num_experts=2,
        num_experts_per_tok=1, shared_expert_intermediate_size=16,
    )  # fmt: skip
    assert 20 == as_target(Qwen2MoeForCausalLM(config)).vocab_size
