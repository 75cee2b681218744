"""A layer that wants what our attention does not do is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.errors import ModelError
from verifier.target.round import RoundItem
from verifier.torch_target.forward.attention import attend_round
from verifier.torch_target.forward.block_cache import BlockCache
from verifier.torch_target.forward.ragged_attention import RaggedAttention
from verifier.torch_target.forward.ragged_layout import RaggedLayout
from verifier.torch_target.kernels.head_shape import HeadShape


class Layer(nn.Module):
    """All that the attention reads of a module."""

    layer_idx = 0


def test_what_is_not_supported_is_refused_by_name() -> None:
    item = RoundItem(0, (0,), 0, (0,), None)
    layout = RaggedLayout.of([item], 4, HeadShape(2, 1), [None], torch.zeros(0))
    query, key = torch.zeros(1, 2, 1, 8), torch.zeros(1, 1, 1, 8)
    round_ = {"round_attention": RaggedAttention(layout, BlockCache(4))}
    with pytest.raises(ModelError, match="layer 0 of the target uses a position bias"):
        attend_round(Layer(), query, key, key, None, position_bias=query, **round_)
    with pytest.raises(ModelError, match="is not causal"):
        attend_round(Layer(), query, key, key, None, is_causal=False, **round_)
    with pytest.raises(ModelError, match="has 2 query and 2 key heads, not 2 and 1"):
        attend_round(Layer(), query, query, query, None, **round_)
    with pytest.raises(ModelError, match="has a window of 7 tokens"):
        attend_round(Layer(), query, key, key, None, sliding_window=7, **round_)
    with pytest.raises(ModelError, match="does not hand the round on"):
        attend_round(Layer(), query, key, key, None)
