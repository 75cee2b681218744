"""Which weights of a draft learn: all of them, or matrices of low rank beside frozen ones.

Of low rank a matrix is W + L·R with L [outputs, rank] and R [rank, inputs], of which L begins at
zero (Hu et al. 2021, LoRA, arXiv 2106.09685): embedding and norms stay, and there is less to keep
and to forget. Both are told to their optimisers here; it must never know a loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from verifier.finetune.llama.llama_model import MATRICES, LlamaModel


class TrainedWeights(Protocol):
    """What a student computes with, and what its optimisers change."""

    by_muon: list[nn.Parameter]  # stacks of matrices; none: there are no such
    by_adam: list[tuple[str, list[nn.Parameter]]]  # by the name of their rate in `Recipe`

    def matrix(self, name: str) -> Tensor:
        """Of all layers [layers, outputs, inputs]; its gradient goes to what learns."""
        ...

    def state(self) -> Mapping[str, Tensor]:
        """All that a restart needs."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from such a state."""
        ...

    def merge(self) -> None:
        """Put what was learned into the model's own weights; learning begins anew behind it."""
        ...


def trained_weights(model: LlamaModel, lora_rank: int) -> TrainedWeights:
    """All weights where the rank is 0."""
    return LowRankWeights(model, lora_rank) if lora_rank else WholeWeights(model)


class WholeWeights:
    """Implements `TrainedWeights`: all of the model itself."""

    def __init__(self, model: LlamaModel) -> None:
        self._model = model.requires_grad_(True)
        self.by_muon = [model.get_parameter(name) for name in MATRICES]
        vectors = [model.get_parameter(name) for name in model.shape.vector_sizes]
        others = [model.embedding, model.last_norm, *vectors]
        if model.unembedding is not None:
            others.append(model.unembedding)
        self.by_adam = [("embedding_rate", others)]

    def matrix(self, name: str) -> Tensor:
        return self._model.get_parameter(name)

    def state(self) -> Mapping[str, Tensor]:
        return self._model.state_dict()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._model.load_state_dict(state)

    def merge(self) -> None:
        """They are there already."""


class LowRankWeights:
    """Implements `TrainedWeights`: two thin matrices beside each of the model's, which stay."""

    def __init__(self, model: LlamaModel, rank: int) -> None:
        self._model = model.requires_grad_(False)
        self._rank = rank
        device = model.last_norm.device
        generator = torch.Generator().manual_seed(0)
        self._left, self._right = {}, {}
        for name in MATRICES:
            layers, num_outputs, num_inputs = model.get_parameter(name).shape
            thin = torch.randn(layers, rank, num_inputs, generator=generator) * num_inputs**-0.5
            self._right[name] = nn.Parameter(thin.to(device))
            self._left[name] = nn.Parameter(torch.zeros(layers, num_outputs, rank, device=device))
        self.by_muon: list[nn.Parameter] = []
        self.by_adam = [("matrix_rate", [*self._left.values(), *self._right.values()])]

    def matrix(self, name: str) -> Tensor:
        return self._model.get_parameter(name) + self._left[name] @ self._right[name]

    def state(self) -> Mapping[str, Tensor]:
        """The model's own weights are in the file that it began from."""
        sides = (("left", self._left), ("right", self._right))
        return {f"{side}.{name}": part.detach() for side, of in sides for name, part in of.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for side, parts in (("left", self._left), ("right", self._right)):
                for name, part in parts.items():
                    part.copy_(state[f"{side}.{name}"])

    @torch.no_grad()
    def merge(self) -> None:
        for name in MATRICES:
            self._model.get_parameter(name).copy_(self.matrix(name))
            self._left[name].zero_()
