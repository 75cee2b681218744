"""Decoder layers whose residual sums are part of the matrix products before them.

A stock layer multiplies, stores, reads, adds and stores again; here the product adds to the
residual where it lies, or the norm behind it does. Products in 8-bit floats get their rows from the
norm or the gate before them, already rounded. Only for layers of the common form
    r = x + o_proj(attention(norm1(x))); r + down_proj(gated(norm2(r)))
which a sample has to confirm before a layer is changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from verifier.torch_target.kernels.layers import gated, gated_rows
from verifier.torch_target.kernels.row_quantisation import EightBitRows, ScaledSums, add_scaled
from verifier.torch_target.layers.fused_attention import FusedAttention
from verifier.torch_target.layers.fused_norm import fused_norm_of
from verifier.torch_target.layers.layer_checks import is_close, sample_input
from verifier.torch_target.layers.merged_projections import MergedProduct
from verifier.torch_target.layers.row_product import RowProduct, row_product_of, scales_apart
from verifier.torch_target.layers.weight_only import WeightOnlyLinear

_CHILDREN = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}


class GatedPerceptron:
    """down(activation(gate(x)) * up(x)) with gate and up as one product."""

    def __init__(
        self, gate_up: MergedProduct, down: nn.Linear | WeightOnlyLinear, activation: str
    ) -> None:
        self.down = down
        self.takes_rows = isinstance(gate_up.whole, RowProduct)
        self._gate_up = scales_apart(gate_up.whole)
        self._activation = activation
        self._gated = gated if row_product_of(down) is None else gated_rows

    def inner(self, x: Tensor | EightBitRows) -> Tensor | EightBitRows:
        """What goes into the down projection."""
        return self._gated(self._gate_up(x), self._activation)

    def __call__(self, x: Tensor) -> Tensor:
        output: Tensor = self.down(self.inner(x))
        return output


class _Normed(NamedTuple):
    """What a layer begins with, made by the one before it."""

    hidden_states: Tensor
    normed: Tensor | EightBitRows


class PreNormLayer:
    """The forward pass of a layer of the common form; its input is spent."""

    def __init__(self, layer: Any, perceptron: GatedPerceptron) -> None:
        """Take the layer over: its attention no longer projects its output itself."""
        self._layer = layer
        self._perceptron = perceptron
        self._norm_after_attention = _AddingNorm(
            layer.self_attn.o_proj, layer.post_attention_layernorm
        )
        self._add_inner = _adding(perceptron.down)
        self._next: tuple[PreNormLayer, _AddingNorm] | None = None
        self._given: _Normed | None = None
        layer.self_attn.o_proj.forward = _unchanged

    def go_before(self, layer: PreNormLayer) -> None:
        """Norm for the layer that is called next with what this one gives, if that saves a kernel.

        Between them nothing may change it.
        """
        if isinstance(self._perceptron.down, WeightOnlyLinear):
            self._next = layer, _AddingNorm(self._perceptron.down, layer.input_norm)

    @property
    def input_norm(self) -> Any:
        """The module that norms what comes in."""
        return self._layer.input_layernorm

    def takes_rows(self, angles: tuple[Tensor, Tensor] | None) -> bool:
        """Whether its attention takes a norm in 8-bit floats."""
        attention = vars(self._layer.self_attn).get("forward")
        return isinstance(attention, FusedAttention) and attention.takes_rows(angles)

    def take_normed(self, hidden_states: Tensor, normed: Tensor | EightBitRows) -> None:
        """The norm of what it is called with next; of another tensor it makes its own."""
        self._given = _Normed(hidden_states, normed)

    def __call__(self, hidden_states: Tensor, **others: Any) -> Tensor:
        angles = others.get("position_embeddings")
        given, self._given = self._given, None
        if given is None or given.hidden_states is not hidden_states:
            normed = self._normed(hidden_states, angles)
        else:
            normed = given.normed
        attended, _ = self._layer.self_attn(hidden_states=normed, **others)
        takes_rows = self._perceptron.takes_rows
        inner = self._perceptron.inner(
            self._norm_after_attention(hidden_states, attended, in_rows=takes_rows)
        )
        if self._next is None:
            self._add_inner(hidden_states, inner)
        else:
            layer, add_and_norm = self._next
            normed = add_and_norm(hidden_states, inner, in_rows=layer.takes_rows(angles))
            layer.take_normed(hidden_states, normed)
        return hidden_states

    def _normed(
        self, hidden_states: Tensor, angles: tuple[Tensor, Tensor] | None
    ) -> Tensor | EightBitRows:
        fused = fused_norm_of(self.input_norm)
        if fused is not None and self.takes_rows(angles):
            return fused.rows(hidden_states)
        normed: Tensor = self.input_norm(hidden_states)
        return normed


def link_layers(model: nn.Module) -> None:
    """Let each layer that `fuse_residuals` has changed norm for the one behind it."""
    forwards = [vars(module).get("forward") for module in model.modules()]
    layers = [forward for forward in forwards if isinstance(forward, PreNormLayer)]
    for layer, following in itertools.pairwise(layers):
        layer.go_before(following)


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
    is_of_rows = row_product_of(down) is not None
    return isinstance(theirs, Tensor) and is_close(ours, theirs, is_of_rows=is_of_rows)


def _halved(hidden_states: Tensor, **_: Any) -> tuple[Tensor, None]:
    return hidden_states / 2, None


def _unchanged(x: Tensor) -> Tensor:
    return x


class _AddingNorm:
    """Does as `_adding` and gives the norm of the sums."""

    def __init__(self, module: nn.Linear | WeightOnlyLinear, norm: Any) -> None:
        self._norm = norm
        self._add = _adding(module)
        self._fused = fused_norm_of(norm)
        self._multiply = (
            scales_apart(module.product) if isinstance(module, WeightOnlyLinear) else None
        )

    def __call__(self, sums: Tensor, x: Any, *, in_rows: bool) -> Tensor | EightBitRows:
        """The norm, `in_rows` of 8-bit floats where it is a kernel of ours."""
        if self._fused is not None and self._multiply is not None:
            fused = self._fused
            after = fused.rows_after_adding if in_rows else fused.after_adding
            return after(sums, self._multiply(x))
        self._add(sums, x)
        normed: Tensor = self._norm(sums)
        return normed


def _adding(module: nn.Linear | WeightOnlyLinear) -> Callable[[Tensor, Any], object]:
    """What adds the product of inputs [1, n, num_inputs] to sums [1, n, num_outputs].

    With plain weights the sum is a part of the product, and rounded once. What a `RowProduct` is
    given may be in 8-bit floats.
    """
    if isinstance(module, WeightOnlyLinear):
        return partial(_add_product, scales_apart(module.product))
    transposed = module.weight.t()
    return lambda sums, x: sums[0].addmm_(x[0], transposed)


def _add_product(multiply: Callable[..., Tensor | ScaledSums], sums: Tensor, x: Any) -> None:
    product = multiply(x)
    if isinstance(product, ScaledSums):
        add_scaled(sums, product)
    else:
        sums.add_(product)
