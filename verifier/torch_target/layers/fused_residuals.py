"""Decoder layers whose residual sums are part of the matrix products before them.

A stock layer multiplies, stores, reads, adds and stores again; here the product adds to the
residual where it lies. Only for layers of the common form
    r = x + o_proj(attention(norm1(x))); r + down_proj(gated(norm2(r)))
which a sample has to confirm before a layer is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from verifier.torch_target.kernels.layers import gated
from verifier.torch_target.layers.fused_norm import fused_norm_of
from verifier.torch_target.layers.layer_checks import is_close, sample_input
from verifier.torch_target.layers.merged_projections import MergedProduct
from verifier.torch_target.layers.weight_only import WeightOnlyLinear

_CHILDREN = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}


class GatedPerceptron:
    """down(activation(gate(x)) * up(x)) with gate and up as one product."""

    def __init__(
        self, gate_up: MergedProduct, down: nn.Linear | WeightOnlyLinear, activation: str
    ) -> None:
        self.down = down
        self._gate_up = gate_up
        self._activation = activation

    def inner(self, x: Tensor) -> Tensor:
        """What goes into the down projection."""
        return gated(self._gate_up.whole(x), self._activation)

    def __call__(self, x: Tensor) -> Tensor:
        output: Tensor = self.down(self.inner(x))
        return output


class PreNormLayer:
    """The forward pass of a layer of the common form; its input is spent."""

    def __init__(self, layer: Any, perceptron: GatedPerceptron) -> None:
        """Take the layer over: its attention no longer projects its output itself."""
        self._layer = layer
        self._perceptron = perceptron
        self._norm_after_adding = _norming(layer.self_attn.o_proj, layer.post_attention_layernorm)
        self._add_inner = _adding(perceptron.down)
        layer.self_attn.o_proj.forward = _unchanged

    def __call__(self, hidden_states: Tensor, **others: Any) -> Tensor:
        layer = self._layer
        normed = layer.input_layernorm(hidden_states)
        attended, _ = layer.self_attn(hidden_states=normed, **others)
        inner = self._perceptron.inner(self._norm_after_adding(hidden_states, attended))
        self._add_inner(hidden_states, inner)
        return hidden_states


def fuse_residuals(layer: nn.Module, perceptrons: Mapping[nn.Module, GatedPerceptron]) -> bool:
    """Change a layer of the common form; `perceptrons` are those of the model by module."""
    if {name for name, _ in layer.named_children()} != _CHILDREN:
        return False
    perceptron = perceptrons.get(layer.get_submodule("mlp"))
    output = getattr(layer.get_submodule("self_attn"), "o_proj", None)
    if perceptron is None or not _is_plain(perceptron.down) or not _is_plain(output):
        return False
    if not _has_common_form(layer, perceptron.down):
        return False
    layer.forward = PreNormLayer(layer, perceptron)
    return True


def _is_plain(module: nn.Module | None) -> bool:
    if isinstance(module, WeightOnlyLinear):
        return True
    return type(module) is nn.Linear and module.bias is None


def _has_common_form(layer: Any, down: nn.Linear | WeightOnlyLinear) -> bool:
    """Whether the layer adds and norms as it should, around an attention that only halves.

    `down` is the last projection of its perceptron.
    """
    x = sample_input(down.weight if isinstance(down, nn.Linear) else down.like, down.out_features)
    attention = layer.self_attn.forward
    layer.self_attn.forward = _halved
    try:
        with torch.inference_mode():
            theirs = layer(x.clone())
            between = x + layer.input_layernorm(x) / 2
            ours = between + layer.mlp(layer.post_attention_layernorm(between))
    except (TypeError, ValueError):  # it wants more than hidden states
        return False
    finally:
        layer.self_attn.forward = attention
    return isinstance(theirs, Tensor) and is_close(ours, theirs)


def _halved(hidden_states: Tensor, **_: Any) -> tuple[Tensor, None]:
    return hidden_states / 2, None


def _unchanged(x: Tensor) -> Tensor:
    return x


def _norming(module: nn.Linear | WeightOnlyLinear, norm: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """What does as `_adding` and gives the norm of the sums."""
    fused = fused_norm_of(norm)
    if fused is not None and isinstance(module, WeightOnlyLinear):
        multiply = module.forward
        return lambda sums, x: fused.after_adding(sums, multiply(x))
    add = _adding(module)

    def add_and_norm(sums: Tensor, x: Tensor) -> Tensor:
        add(sums, x)
        normed: Tensor = norm(sums)
        return normed

    return add_and_norm


def _adding(module: nn.Linear | WeightOnlyLinear) -> Callable[[Tensor, Tensor], object]:
    """What adds the product of inputs [1, n, num_inputs] to sums [1, n, num_outputs].

    With plain weights the sum is a part of the product, and rounded once.
    """
    if isinstance(module, WeightOnlyLinear):
        multiply = module.forward
        return lambda sums, x: sums.add_(multiply(x))
    transposed = module.weight.t()
    return lambda sums, x: sums[0].addmm_(x[0], transposed)
