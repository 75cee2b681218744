"""Layers of a rank's model whose outputs the ranks make together.

What is cut by its inputs gives summands: they are added up before the residual is, which every rank
keeps whole, so one sum in each half of a layer is all. Made of our own kind of layers, which the
fused ones take as they take quantised ones.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from verifier.torch_target.layers.weight_only import WeightOnlyLinear
from verifier.torch_target.parallel.rank_group import RankGroup
from verifier.torch_target.parallel.split import SUMMED


def join_layers(model: Any, group: RankGroup) -> None:
    """Let a rank's model give what the whole one gives; all ranks run it at the same time."""
    for module in list(model.modules()):
        for name in SUMMED:
            part = getattr(module, name, None)
            if isinstance(part, nn.Linear | WeightOnlyLinear):
                setattr(module, name, _joined(part, group))
    head, num_tokens = model.get_output_embeddings(), model.config.vocab_size
    model.set_output_embeddings(_GatheredLogits(head, group, num_tokens))


def _joined(part: nn.Linear | WeightOnlyLinear, group: RankGroup) -> WeightOnlyLinear:
    like = part.like if isinstance(part, WeightOnlyLinear) else part.weight.new_empty(0)
    return WeightOnlyLinear(_Summed(part, group), part.in_features, part.out_features, like)


class _Summed(nn.Module):
    """A product over all inputs, of which each rank has some."""

    def __init__(self, part: nn.Module, group: RankGroup) -> None:
        super().__init__()
        self.part = part
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        summands: Tensor = self.part(x)
        self._group.add_up(summands)
        return summands


class _GatheredLogits(nn.Module):
    """Logits of all tokens, of which each rank makes some."""

    def __init__(self, part: nn.Module, group: RankGroup, num_tokens: int) -> None:
        super().__init__()
        self.part = part
        self._group = group
        self._num_tokens = num_tokens

    def forward(self, x: Tensor) -> Tensor:
        """[..., num_tokens] for [..., hidden_size]."""
        gathered = self._group.gather(self.part(x))
        logits = gathered.movedim(0, -2).flatten(-2)
        return logits[..., : self._num_tokens].contiguous()
