"""Rotations are those of a stream as long as the context allows, and never change again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.gemma3.configuration_gemma3 import Gemma3TextConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from verifier.torch_target.loading.rotations import fix_rotations

ORIGINAL_TOKENS = 32
LIKE = torch.zeros(1)
SIZES = {"hidden_size": 32, "num_attention_heads": 4, "head_dim": 8, "max_position_embeddings": 128}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": ORIGINAL_TOKENS,
    "factor": 4.0,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}


def rotary(rope: dict[str, Any]) -> LlamaRotaryEmbedding:
    return LlamaRotaryEmbedding(LlamaConfig(**SIZES, rope_parameters=dict(rope)))


def sines(module: Any, num_tokens: int, *layer_type: str) -> Tensor:
    """Of the first positions of a stream that ends after `num_tokens`."""
    sine: Tensor = module(LIKE, torch.arange(num_tokens)[None], *layer_type)[1]
    return sine[0, :8]


@pytest.mark.parametrize(
    ("rope", "context_tokens"),
    [(LONG_ROPE, ORIGINAL_TOKENS), (LONG_ROPE, 100), (DYNAMIC, 128), (DYNAMIC, 400)],
)
def test_all_streams_rotate_as_the_longest(rope: dict[str, Any], context_tokens: int) -> None:
    expected = sines(rotary(rope), context_tokens)
    fixed = rotary(rope)
    fix_rotations(fixed, context_tokens)
    for num_tokens in (8, context_tokens, 9):
        assert torch.equal(expected, sines(fixed, num_tokens))


def test_what_is_fixed_would_have_changed() -> None:
    for rope, num_tokens in ((LONG_ROPE, ORIGINAL_TOKENS + 1), (DYNAMIC, 200)):
        assert not torch.equal(sines(rotary(rope), 8), sines(rotary(rope), num_tokens))


def test_layers_of_each_kind_are_fixed_on_their_own() -> None:
    config = Gemma3TextConfig(
        **SIZES,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": LONG_ROPE,
        },
    )
    expected = {
        kind: sines(Gemma3RotaryEmbedding(config), 100, kind) for kind in config.layer_types
    }
    fixed = Gemma3RotaryEmbedding(config)
    fix_rotations(fixed, 100)
    for kind in config.layer_types:
        assert torch.equal(expected[kind], sines(fixed, 8, kind))
