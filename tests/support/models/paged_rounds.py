"""Two rounds of two streams over a small cache, and their logits by our attention kernels.

Imports Triton on demand only, so that a test can skip without it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from shared.speculation.sampling import GREEDY
from tests.support.models.triton_kernels import DEVICE
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.attention import model_logits
from verifier.torch_target.forward.block_cache import BlockCache, CacheShape
from verifier.torch_target.forward.round_inputs import RoundInputs
from verifier.torch_target.kernels.head_shape import HeadShape, attention_windows
from verifier.torch_target.kernels.paged_layout import PagedLayout, positions_of

HEAD_DIM = 16  # the least that a tensor core takes
SHAPE = CacheShape(num_blocks=8, block_tokens=4, context_tokens=16)


def item(stream: int, num_cached: int, token_ids: tuple[int, ...], *blocks: int) -> RoundItem:
    check = DraftCheck(token_ids[1:], (), "coupled", GREEDY, 0, 0, True)
    return RoundItem(stream, token_ids, num_cached, blocks, check)


# The second goes on where the first ended.
ROUNDS = (
    Round((item(0, 0, (1, 2, 3, 4, 5), 6, 1), item(1, 0, (9, 8), 3))),
    Round((item(0, 5, (7, 7, 6), 6, 1), item(1, 2, (4,), 3))),
)


def paged_logits(model: Any, round_: Round, cache: BlockCache) -> Tensor:
    """Of a model whose layers use the round's attention, on its device."""
    from verifier.torch_target.forward.paged_attention import PagedAttention

    config = model.config.get_text_config()
    heads, windows = HeadShape.of(config), attention_windows(config)
    positions = positions_of(round_.items)
    layout = PagedLayout.of(round_.items, positions, SHAPE.block_tokens, heads, windows, 4)
    inputs = RoundInputs.of(round_, positions).to(DEVICE)
    return model_logits(model, inputs, PagedAttention(layout.to(DEVICE), cache))
