"""Quantised targets: linear layers keep weights of 4 or 8 bits.

Each output row has one scale, in int4 each 128 weights of it. On a GPU projections of one input
become one product first. The embeddings stay as they are, and the logits' own matrix too: but in
int4, where it would be a third of what a short round reads, it is kept in 8 bits. This module must
never choose whether to quantise, nor know a library.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from shared.errors import ModelError
from verifier.target.precision import Quantisation
from verifier.torch_target.layers.merged_projections import MergedProduct, can_merge
from verifier.torch_target.layers.weight_only import MergedPart, WeightOnlyLinear
from verifier.torch_target.precision.gpu_limits import check_quantisation
from verifier.torch_target.precision.torch_device import dtype_name
from verifier.torch_target.precision.weight_products import (
    GROUP_WEIGHTS,
    MakeProduct,
    Product,
    product_maker,
)

logger = logging.getLogger(__name__)

# Scales included: of integers one of 16 bits for each group.
BITS_PER_WEIGHT: Mapping[Quantisation, float] = MappingProxyType(
    {"int8": 8.0 + 16.0 / GROUP_WEIGHTS, "fp8": 8.0, "int4": 4.0 + 16.0 / GROUP_WEIGHTS}
)

_HEAD_OF_INT4: Quantisation = "int8"

_OF_ONE_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def check_can_quantise(kind: Quantisation, device: torch.device) -> None:
    """Say what is missing before anything is loaded.

    Raises:
        ModelError: the library is not installed, or the device has no such numbers.
    """
    if kind == "none":
        return
    if device.type == "cuda":
        check_quantisation(kind, torch.cuda.get_device_capability(device))
    product_maker(kind, device)


def quantise(model: Any, kind: Quantisation, device: torch.device) -> None:
    """Replace the linear layers of a model, one by one; they are on `device` afterwards.

    A GPU never holds the unquantised weights of more than one layer.

    Raises:
        ModelError: as `check_can_quantise`; or the model has no such layers, or of odd sizes.
    """
    if kind == "none":
        return
    linears = quantisable(model)
    if not linears:
        name = type(model).__name__
        raise ModelError(f"target.quantisation is {kind}, but {name} has no linear layers")
    dtype = next(iter(linears.values())).weight.dtype
    try:
        for layers, own_kind in layers_by_kind(model, kind):
            make = product_maker(own_kind, device)
            replace_linears(model, layers, make, device, merges=device.type == "cuda")
    except NotImplementedError as error:
        raise ModelError(f"target.quantisation = {kind} is not possible: {error}") from error
    number, rest = len(linears), dtype_name(dtype)
    logger.info("%d linear layers in %s; all else stays in %s", number, kind, rest)


def replace_linears(
    module: nn.Module,
    linears: dict[str, nn.Linear],
    make: MakeProduct,
    device: torch.device,
    *,
    merges: bool,
) -> None:
    """Replace these layers of a module, by name; `merges`: those of one input together.

    Raises:
        NotImplementedError: a layer is of odd sizes; the sentence names it.
    """
    for names in one_input_groups(
        linears, lambda group: merges and can_merge(_all(linears, group))
    ):
        layers = [linears[name] for name in names]
        try:
            replacements = _quantised(layers, make, device)
        except NotImplementedError as error:
            shape = f"{layers[0].out_features} × {layers[0].in_features}"
            raise NotImplementedError(f"layer {names[0]} of {shape}: {error}") from error
        for name, replacement in zip(names, replacements, strict=True):
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, replacement)


def quantisable(model: Any) -> dict[str, nn.Linear]:
    """All linear layers but that of the logits, by name."""
    output = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module is not output
    }


def layers_by_kind(
    model: Any, kind: Quantisation
) -> list[tuple[dict[str, nn.Linear], Quantisation]]:
    """The layers that `quantise` replaces, by name, and what their weights become."""
    layers = [(quantisable(model), kind)]
    if kind == "int4":
        layers.append((quantisable_head(model), _HEAD_OF_INT4))
    return layers


def quantisable_head(model: Any) -> dict[str, nn.Linear]:
    """The layer of the logits by its name; none where it shares its weight with the embedding."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if type(head) is not nn.Linear or head.weight is getattr(embedding, "weight", None):
        return {}
    return {name: module for name, module in model.named_modules() if module is head}


def one_input_groups(
    names: Collection[str], can_merge_all: Callable[[Sequence[str]], bool]
) -> Iterator[Sequence[str]]:
    """All names once, those of layers that become one product together."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            continue
        group = _siblings(name)
        is_whole = all(sibling in names for sibling in group) and can_merge_all(group)
        chosen = group if is_whole else (name,)
        seen.update(chosen)
        yield chosen


def _siblings(name: str) -> Sequence[str]:
    parent, dot, child = name.rpartition(".")
    for names in _OF_ONE_INPUT:
        if child in names:
            return [f"{parent}{dot}{sibling}" for sibling in names]
    return (name,)


def _all(linears: Mapping[str, nn.Linear], names: Sequence[str]) -> list[nn.Module | None]:
    return [linears[name] for name in names]


def _quantised(
    layers: Sequence[nn.Linear], make: MakeProduct, device: torch.device
) -> Sequence[WeightOnlyLinear]:
    first = layers[0]
    sizes = [layer.out_features for layer in layers]
    like = first.weight.new_empty(0, device=device)  # before a library takes the weight over
    product = make(first if len(layers) == 1 else _side_by_side(layers))
    return layers_of_product(product, first.in_features, sizes, like)


def layers_of_product(
    product: Product, num_inputs: int, sizes: Sequence[int], like: torch.Tensor
) -> Sequence[WeightOnlyLinear]:
    """Layers of these numbers of outputs whose product is one."""
    if len(sizes) == 1:
        return [WeightOnlyLinear(product, num_inputs, sizes[0], like)]
    merged = MergedProduct(sizes, product)
    return [MergedPart(merged, i, num_inputs, size, like) for i, size in enumerate(sizes)]


def _side_by_side(layers: Sequence[nn.Linear]) -> nn.Linear:
    """One layer that gives the outputs of all."""
    num_outputs = sum(layer.out_features for layer in layers)
    whole = nn.Linear(layers[0].in_features, num_outputs, bias=False, device="meta")
    with torch.no_grad():
        whole.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]))
        if layers[0].bias is not None:
            whole.bias = nn.Parameter(torch.cat([layer.bias for layer in layers]))
    return whole
