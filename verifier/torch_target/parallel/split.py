"""Which part of each weight a rank has, and which models can be divided so.

Queries, keys and values are cut by heads, gate and up by columns of their output, what follows them
by its inputs, so that one sum over the ranks is needed behind the attention and one behind the
perceptron; the logits are cut by tokens. All else every rank has whole. A rank's model is then a
smaller one of the same architecture. No device and no file is asked here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from shared.errors import ModelError
from verifier.torch_target.kernels.head_shape import HeadShape

_ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
_PERCEPTRON = frozenset({"gate_proj", "up_proj", "down_proj"})
_MOST_TOLD = 8  # GPUs of one host
# Norms over each head and activations may stand beside them.
_BESIDE = frozenset({"q_norm", "k_norm", "act_fn"})
SUMMED = ("o_proj", "down_proj")  # what is cut by its inputs: ranks' outputs are summands


@dataclass(frozen=True, slots=True)
class Cut:
    """One of equal parts of a tensor along a dimension."""

    dimension: int
    num_parts: int
    index: int

    def bounds(self, size: int) -> tuple[int, int]:
        """Where the part begins and ends; the last ones may be shorter, or empty."""
        part = -(-size // self.num_parts)
        return min(self.index * part, size), min((self.index + 1) * part, size)


@dataclass(frozen=True, slots=True)
class Split:
    """A rank's part of a model with such heads."""

    rank: int
    num_ranks: int
    heads: HeadShape  # of the whole model

    def cut_of(self, name: str) -> Cut | None:
        """By the name of a tensor such as `model.layers.0.mlp.up_proj.weight`; None: whole."""
        layer, _, kind = name.rpartition(".")
        projection = layer.rpartition(".")[2]
        if projection in SUMMED:
            return Cut(1, self.num_ranks, self.rank) if kind == "weight" else None
        if projection in ("k_proj", "v_proj"):
            # With fewer heads than ranks, neighbours have the same.
            num_parts = min(self.heads.num_kv_heads, self.num_ranks)
            return Cut(0, num_parts, self.rank * num_parts // self.num_ranks)
        if projection in _ATTENTION | _PERCEPTRON:
            return Cut(0, self.num_ranks, self.rank)
        return None

    def is_other_ranks(self, name: str) -> bool:
        """Whether the tensor is a bias that must be added by one rank alone, and this is not it."""
        layer, _, kind = name.rpartition(".")
        return self.rank > 0 and kind == "bias" and layer.rpartition(".")[2] in SUMMED

    @property
    def of_logits(self) -> Cut:
        """Which tokens' logits the rank makes."""
        return Cut(0, self.num_ranks, self.rank)


def rank_config(config: Any, num_ranks: int) -> Any:
    """The configuration of a rank's model, whose logits are still those of its embedding."""
    heads = HeadShape.of(config)
    size = getattr(config, "head_dim", None) or config.hidden_size // heads.num_heads
    own = copy.deepcopy(config)
    own.head_dim = size
    own.num_attention_heads = heads.num_heads // num_ranks
    own.num_key_value_heads = max(heads.num_kv_heads // num_ranks, 1)
    own.intermediate_size = config.intermediate_size // num_ranks
    own.tie_word_embeddings = True
    return own


def check_can_split(config: Any, outline: Any, num_ranks: int) -> None:
    """Accept a model, by its configuration and its `outline` without weights.

    Raises:
        ModelError: it cannot be split over so many GPUs; the sentence says why.
    """
    obstacle = next(_obstacles(config, outline, num_ranks), None)
    if obstacle is not None:
        raise ModelError(
            f"a target of type {config.model_type} cannot be split over {num_ranks} GPUs "
            f"(workers.gpus_per_worker): {obstacle}"
        )


def check_parts(split: Split, outline: Any, part: Any) -> None:
    """Accept a rank's model, by outlines of the whole and of the part.

    Raises:
        ModelError: a weight of the part is not what the cut of the whole one would give.
    """
    sizes = dict(part.named_parameters())
    for name, whole in outline.named_parameters():
        cut, expected = split.cut_of(name), list(whole.shape)
        if cut is not None:
            expected[cut.dimension] //= cut.num_parts
        if name in sizes and list(sizes[name].shape) != expected:
            raise ModelError(
                f"a target of type {outline.config.model_type} cannot be split over several GPUs: "
                f"its {name} cannot be divided"
            )


def _obstacles(config: Any, outline: Any, num_ranks: int) -> Iterator[str]:
    if config.get_text_config() is not config:
        yield "it reads more than text"
    if getattr(config, "quantization_config", None) is not None:
        yield "its weights have fewer bits already; take a checkpoint in 16 bits"
    if not _is_of_common_layers(outline, config.num_hidden_layers):
        yield "its layers are not one attention and one gated perceptron each"
    head = outline.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        yield "its logits are not one plain product"
    fitting = [number for number in range(1, _MOST_TOLD + 1) if _divides(config, number)]
    if num_ranks not in fitting:
        heads = HeadShape.of(config)
        yield (
            f"its {heads.num_heads} query and {heads.num_kv_heads} key/value heads and its "
            f"{config.intermediate_size} inner units do not divide; possible are "
            + ", ".join(map(str, fitting))
        )


def _is_of_common_layers(outline: Any, num_layers: int) -> bool:
    """Mixtures of experts, merged projections and layers of two branches are not."""
    counts = dict.fromkeys((_ATTENTION, _PERCEPTRON), 0)
    for module in outline.modules():
        children = {name for name, _ in module.named_children()}
        for kind in counts:
            if children & kind:
                if not kind <= children <= kind | _BESIDE:
                    return False
                counts[kind] += 1
    return set(counts.values()) == {num_layers}


def _divides(config: Any, num_ranks: int) -> bool:
    heads = HeadShape.of(config)
    shares_evenly = num_ranks % heads.num_kv_heads == 0 or heads.num_kv_heads % num_ranks == 0
    is_divided = heads.num_heads % num_ranks == 0 and config.intermediate_size % num_ranks == 0
    return shares_evenly and is_divided
