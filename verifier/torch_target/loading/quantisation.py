"""Weight-only quantised targets: linear layers keep 8-bit weights, activations stay as they are.

Each output row has one scale. The products are a library's: on a GPU gemlite's, which widens
weights inside its kernels and so reads half as much as bfloat16; on a CPU torchao's, which
widens a layer's weights at every call: a quarter of float32's memory, but no faster. The logits'
own matrix and the embeddings stay as they are. This module must never choose whether to
quantise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import ModelError
from verifier.target.precision import Quantisation
from verifier.torch_target.loading.gpu_limits import check_quantisation
from verifier.torch_target.loading.torch_device import dtype_name

logger = logging.getLogger(__name__)


class WeightOnlyLinear(nn.Module):
    """A linear layer whose product and weights are a library's.

    The library's layer is no submodule, so that `Module.to` does not widen its weights.
    """

    def __init__(self, product: Callable[[Tensor], Tensor], out_features: int) -> None:
        super().__init__()
        self.out_features = out_features
        self._product = product

    def forward(self, rows: Tensor) -> Tensor:
        """As `nn.Linear`, with the widened weights."""
        return self._product(rows)


def check_can_quantise(kind: Quantisation, device: torch.device) -> None:
    """Say what is missing before anything is loaded.

    Raises:
        ModelError: the library is not installed, or the GPU has no such numbers.
    """
    if kind == "none":
        return
    if device.type == "cuda":
        check_quantisation(kind, torch.cuda.get_device_capability(device))
    _library(kind, device)


def quantise(model: nn.Module, kind: Quantisation, device: torch.device) -> None:
    """Replace the linear layers of a model, one by one; they are on `device` afterwards.

    A GPU never holds the unquantised weights of more than one layer.

    Raises:
        ModelError: as `check_can_quantise`; or the model has no such layers, or of odd sizes.
    """
    if kind == "none":
        return
    quantised = _library(kind, device)
    linears = quantisable(model)
    if not linears:
        name = type(model).__name__
        raise ModelError(f"target.quantisation is {kind}, but {name} has no linear layers")
    dtype = next(iter(linears.values())).weight.dtype
    for name, linear in linears.items():
        size = linear.out_features
        try:
            product = quantised(linear)
        except NotImplementedError as error:
            shape = f"{linear.out_features} × {linear.in_features}"
            raise ModelError(f"layer {name} of {shape} cannot be in {kind}: {error}") from error
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], WeightOnlyLinear(product, size))
    name = dtype_name(dtype)
    logger.info("%d linear layers in %s; all else stays in %s", len(linears), kind, name)


def quantisable(model: Any) -> dict[str, nn.Linear]:
    """The layers that `quantise` replaces, by name: all linear ones but that of the logits."""
    output = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module is not output
    }


_Quantise = Callable[[nn.Linear], Callable[[Tensor], Tensor]]


def _library(kind: Quantisation, device: torch.device) -> _Quantise:
    package = "gemlite" if device.type == "cuda" else "torchao"
    try:
        return (_gemlite if device.type == "cuda" else _torchao)(kind, device)
    except ImportError as error:
        raise ModelError(
            f"target.quantisation is {kind}, which needs {package} "
            "(pip install 'goodspeed[quantised]')"
        ) from error


def _gemlite(kind: Quantisation, device: torch.device) -> _Quantise:
    from gemlite import helper

    layer = helper.A16W8_INT8 if kind == "int8" else helper.A16W8_FP8

    def quantised(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
        replacement = layer(device=str(device), dtype=linear.weight.dtype).from_linear(linear)
        forward: Callable[[Tensor], Tensor] = replacement.forward
        return forward

    return quantised


def _torchao(kind: Quantisation, device: torch.device) -> _Quantise:
    # It warns of each of its compiled kernels that is not for this machine; none is needed here.
    logging.getLogger("torchao").setLevel(logging.ERROR)
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config = Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig()

    def quantised(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
        linear.requires_grad_(False)
        quantize_(linear, config, device=device)
        return linear.forward

    return quantised
