"""A model whose layers attend by our kernels gives the logits that it gives by torch's attention.

Runs on a GPU; without one through Triton's interpreter, where Triton is installed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from tests.support.models.paged_rounds import HEAD_DIM, ROUNDS, SHAPE, paged_logits
from tests.support.models.tiny_models import (
    tiny_deepseek,
    tiny_gemma2,
    tiny_gemma3,
    tiny_gpt_oss,
    tiny_llama,
)
from tests.support.models.triton_kernels import DEVICE, import_triton
from verifier.torch_target.forward.attention import use_round_attention
from verifier.torch_target.forward.block_cache import BlockCache
from verifier.torch_target.forward.cpu_forward import CpuForward

import_triton()

# What the interpreter computes for rows that a tile leaves unused.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize(
    "make", [tiny_llama, tiny_gemma3, tiny_gemma2, tiny_gpt_oss, tiny_deepseek]
)
@torch.inference_mode()
def test_kernels_and_torch_agree_on_a_whole_model(make: Callable[[int], PreTrainedModel]) -> None:
    on_cpu = CpuForward(make(HEAD_DIM), SHAPE, torch.float32)
    model = make(HEAD_DIM).to(DEVICE).eval()
    use_round_attention(model)
    cache = BlockCache(SHAPE.num_slots)
    for round_ in ROUNDS:
        logits = paged_logits(model, round_, cache)
        torch.testing.assert_close(logits.cpu(), on_cpu.logits(round_), atol=2e-4, rtol=1e-4)
    num_layers = model.config.get_text_config().num_hidden_layers
    assert frozenset(range(num_layers)) == cache.layers == on_cpu.cached_layers
