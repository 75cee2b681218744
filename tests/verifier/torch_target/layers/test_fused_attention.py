"""A model whose heads one kernel makes ready gives the logits that it gives by its own code.

Runs on a GPU; without one through Triton's interpreter, where Triton is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from tests.support.models.paged_rounds import HEAD_DIM, ROUNDS, SHAPE, paged_logits
from tests.support.models.tiny_models import (
    tiny_deepseek,
    tiny_gemma2,
    tiny_gemma3,
    tiny_gpt_oss,
    tiny_llama,
    tiny_qwen3,
)
from tests.support.models.triton_kernels import DEVICE, import_triton
from verifier.torch_target.forward.block_cache import BlockCache
from verifier.torch_target.forward.cpu_forward import CpuForward
from verifier.torch_target.precision.quantisation import quantisable, replace_linears

import_triton()

from verifier.torch_target.layers.fused_attention import FusedAttention  # noqa: E402

# What the interpreter computes for rows that a tile leaves unused.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def attentions(model: PreTrainedModel) -> list[nn.Module]:
    return [module for name, module in model.named_modules() if name.endswith("self_attn")]


def with_uneven_norms(model: PreTrainedModel) -> PreTrainedModel:
    """As trained ones are; fresh ones are all alike, so that a forgotten weight would not show."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += torch.randn(parameter.shape, generator=generator) / 4
    return model


def unchanged(model: PreTrainedModel) -> PreTrainedModel:
    return model


def with_products_of_a_library(model: PreTrainedModel) -> PreTrainedModel:
    """As quantised ones have: the layers hold no weights of their own."""

    def make(layer: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
        weight, bias = layer.weight.detach(), layer.bias
        return lambda x: nn.functional.linear(x, weight, bias)

    replace_linears(model, quantisable(model), make, DEVICE, merges=True)
    return model


@pytest.mark.parametrize("prepare", [unchanged, with_products_of_a_library])
@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen3, tiny_gemma3, tiny_gemma2])
@torch.inference_mode()
def test_one_kernel_makes_the_heads_of_common_families_ready(
    make: Callable[[int], PreTrainedModel],
    prepare: Callable[[PreTrainedModel], PreTrainedModel],
    fused: Callable[[Any], Any],
) -> None:
    on_cpu = CpuForward(with_uneven_norms(make(HEAD_DIM)), SHAPE, torch.float32)
    model = fused(prepare(with_uneven_norms(make(HEAD_DIM)).to(DEVICE).eval()))
    assert all(isinstance(vars(a).get("forward"), FusedAttention) for a in attentions(model))
    cache = BlockCache(SHAPE.num_slots)
    for round_ in ROUNDS:
        logits = paged_logits(model, round_, cache)
        torch.testing.assert_close(logits.cpu(), on_cpu.logits(round_), atol=2e-4, rtol=1e-4)
    num_layers = model.config.get_text_config().num_hidden_layers
    assert frozenset(range(num_layers)) == cache.layers == on_cpu.cached_layers


@pytest.mark.parametrize("make", [tiny_gpt_oss, tiny_deepseek])
@torch.inference_mode()
def test_a_family_of_another_form_keeps_its_own_code(
    make: Callable[[int], PreTrainedModel], fused: Callable[[Any], Any]
) -> None:
    model = fused(make(HEAD_DIM).to(DEVICE).eval())
    assert attentions(model)
    assert not any(isinstance(vars(a).get("forward"), FusedAttention) for a in attentions(model))


@torch.inference_mode()
def test_a_layer_that_does_something_more_is_found_by_its_numbers(
    fused: Callable[[Any], Any],
) -> None:
    model = tiny_llama(HEAD_DIM).to(DEVICE).eval()
    odd, plain = attentions(model)[:2]
    stock: Any = odd.forward

    def gated(hidden_states: Any, **others: Any) -> Any:
        attended, weights = stock(hidden_states=hidden_states, **others)
        return attended * 1.1, weights

    odd.forward = gated
    fused(model)
    assert odd.forward is gated
    assert isinstance(plain.forward, FusedAttention)
