"""A model whose layers attend by our kernels gives the logits that it gives by torch's attention.

Runs on a GPU; without one through Triton's interpreter, where Triton is installed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from shared.speculation.sampling import GREEDY
from tests.support.models.tiny_models import (
    tiny_deepseek,
    tiny_gemma2,
    tiny_gemma3,
    tiny_gpt_oss,
    tiny_llama,
)
from tests.support.models.triton_kernels import DEVICE, import_triton
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.attention import model_logits, use_round_attention
from verifier.torch_target.forward.block_cache import BlockCache, CacheShape
from verifier.torch_target.forward.cpu_forward import CpuForward
from verifier.torch_target.forward.round_inputs import RoundInputs
from verifier.torch_target.kernels.head_shape import HeadShape, attention_windows
from verifier.torch_target.kernels.paged_layout import PagedLayout, positions_of

import_triton()

from verifier.torch_target.forward.paged_attention import PagedAttention  # noqa: E402

# What the interpreter computes for rows that a tile leaves unused.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
HEAD_DIM = 16  # the least that a tensor core takes
SHAPE = CacheShape(num_blocks=8, block_tokens=4, context_tokens=16)


def item(stream: int, num_cached: int, token_ids: tuple[int, ...], *blocks: int) -> RoundItem:
    check = DraftCheck(token_ids[1:], (), "coupled", GREEDY, 0, 0, True)
    return RoundItem(stream, token_ids, num_cached, blocks, check)


ROUNDS = (
    Round((item(0, 0, (1, 2, 3, 4, 5), 6, 1), item(1, 0, (9, 8), 3))),
    Round((item(0, 5, (7, 7, 6), 6, 1), item(1, 2, (4,), 3))),
)


@pytest.mark.parametrize(
    "make", [tiny_llama, tiny_gemma3, tiny_gemma2, tiny_gpt_oss, tiny_deepseek]
)
@torch.inference_mode()
def test_kernels_and_torch_agree_on_a_whole_model(make: Callable[[int], PreTrainedModel]) -> None:
    on_cpu = CpuForward(make(HEAD_DIM), SHAPE, torch.float32)
    model = make(HEAD_DIM).to(DEVICE).eval()
    use_round_attention(model)
    config = model.config.get_text_config()
    heads, windows = HeadShape.of(config), attention_windows(config)
    cache = BlockCache(SHAPE.num_slots)
    for round_ in ROUNDS:
        positions = positions_of(round_.items)
        layout = PagedLayout.of(round_.items, positions, SHAPE.block_tokens, heads, windows, 4)
        inputs = RoundInputs.of(round_, positions).to(DEVICE)
        logits = model_logits(model, inputs, PagedAttention(layout.to(DEVICE), cache))
        torch.testing.assert_close(logits.cpu(), on_cpu.logits(round_), atol=2e-4, rtol=1e-4)
    assert frozenset(range(config.num_hidden_layers)) == cache.layers == on_cpu.cached_layers
