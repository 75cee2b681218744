"""Sizes that are told from a model agree with what it really takes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from shared.errors import ModelError
from tests.support.models.architectures import ARCHITECTURES
from tests.support.models.tiny_checkpoint import tiny_model
from tests.support.models.tiny_models import tiny_deepseek, tiny_gemma3, tiny_llama, tiny_qwen3
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.loading.model_memory import (
    cache_tokens,
    gpu_has_room,
    head_sizes,
    target_shape,
    weight_bytes,
)
from verifier.torch_target.loading.placement import place_target

MODELS = [tiny_llama, tiny_qwen3, tiny_gemma3]


@pytest.mark.parametrize("make", MODELS)
def test_a_cached_token_takes_what_its_slots_take(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    shape = target_shape(model, torch.float32)
    target = place_target(
        model,
        CacheShape(num_blocks=3, block_tokens=4, context_tokens=12),
        device=torch.device("cpu"),
        dtype=torch.float32,
        model_name="tiny",
    )
    cache = target._forward._cache
    layers, num_slots = cache._layers.values(), cache.num_slots
    taken = sum(part.numel() * part.element_size() for layer in layers for part in layer)
    assert num_slots * shape.cached_token_bytes == taken


def test_layers_without_projections_of_their_own_are_told_from_the_configuration() -> None:
    model = tiny_llama()
    for layer in model.model.layers:
        layer.self_attn.k_proj = layer.self_attn.v_proj = torch.nn.Identity()
    shape = target_shape(model, torch.float16)
    assert 2 * 3 * 2 * 8 == shape.kv_values_per_token
    assert 2 == shape.element_bytes


def test_weights_take_a_byte_where_they_are_quantised() -> None:
    model = tiny_llama()
    total = sum(parameter.numel() for parameter in model.parameters())
    linear = sum(
        p.numel() for name, p in model.named_parameters() if "proj" in name and p.dim() == 2
    )
    assert 2 * total == weight_bytes(model, torch.bfloat16, "none")
    in_eight_bits = 2 * (total - linear) + linear * (8 + 16 / 128) / 8
    assert math.ceil(in_eight_bits) == weight_bytes(model, torch.bfloat16, "int8")
    head = model.lm_head.weight.numel()  # in 8 bits
    in_four_bits = 2 * (total - linear) + linear * (4 + 16 / 128) / 8 + head * (16 / 128 / 8 - 1)
    assert math.ceil(in_four_bits) == weight_bytes(model, torch.bfloat16, "int4")


def test_a_head_has_the_size_that_is_configured_or_its_part_of_the_whole() -> None:
    config = tiny_llama().config
    assert {8} == head_sizes(config)
    config.head_dim = None
    assert {8} == head_sizes(config)


def test_a_head_of_latent_attention_has_a_part_with_rotations_and_one_without() -> None:
    assert {8 + 16} == head_sizes(tiny_deepseek(16).config)


def test_heads_of_layers_may_differ_in_size() -> None:
    (gemma4,) = [a for a in ARCHITECTURES if a.name == "Gemma 4"]
    assert {16, 32} == head_sizes(tiny_model(gemma4).config)


def test_a_cache_on_a_cpu_does_not_ask_what_is_free() -> None:
    num_tokens = cache_tokens(
        tiny_llama(),
        torch.float32,
        torch.device("cpu"),
        context_tokens=256,
        max_round_tokens=512,
        memory_fraction=0.9,
    )
    assert 16384 == num_tokens


GPU = torch.device("cuda")


def on_a_gpu_with(free_bytes: int, monkeypatch: pytest.MonkeyPatch) -> PreTrainedModel:
    """A model whose heads a GPU takes; the GPU is only asked what is free."""
    monkeypatch.setattr(
        "verifier.torch_target.loading.model_memory.free_gpu_bytes", lambda device: free_bytes
    )
    model = tiny_llama()
    model.config.head_dim = 64
    return model


def test_weights_are_not_moved_to_a_gpu_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    model = on_a_gpu_with(1000, monkeypatch)
    with (
        pytest.raises(ModelError, match="the weights of the target take"),
        gpu_has_room(model, torch.bfloat16, "none", GPU),
    ):
        pytest.fail("the model was moved")


def test_heads_that_a_gpu_does_not_take_are_refused_before_anything_moves() -> None:
    with (
        pytest.raises(ModelError, match="heads have a size of 8"),
        gpu_has_room(tiny_llama(), torch.bfloat16, "none", GPU),
    ):
        pytest.fail("the model was moved")


def test_running_out_of_memory_later_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    model = on_a_gpu_with(1 << 30, monkeypatch)
    with (
        pytest.raises(ModelError, match="ran out of memory while the target was loaded"),
        gpu_has_room(model, torch.bfloat16, "none", GPU),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")


def test_a_cache_on_a_gpu_takes_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free_bytes = 2 << 30
    model = on_a_gpu_with(free_bytes, monkeypatch)
    num_tokens = cache_tokens(
        model,
        torch.bfloat16,
        GPU,
        context_tokens=256,
        max_round_tokens=512,
        memory_fraction=0.5,
    )
    shape = target_shape(model, torch.bfloat16)
    left = free_bytes - shape.round_bytes(512)
    assert int(0.5 * left) // shape.cached_token_bytes == num_tokens
