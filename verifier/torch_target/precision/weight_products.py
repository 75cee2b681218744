"""Products with weights of fewer bits, each of a library that is kept well for it.

On a GPU int4 and int8 are humming's (of the vLLM project): it widens weights inside its kernels, so
that they are read as 4 or 8 bits. fp8 is torch's own product of 8-bit floats, with the activations
rounded row by row as well. On a CPU both 8-bit kinds are torchao's, which widens a layer's weights
at every call: a quarter of float32's memory, but no faster.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import ModelError
from verifier.target.precision import Quantisation

Product = Callable[[Tensor], Tensor]  # [..., in_features] to [..., out_features]
MakeProduct = Callable[[nn.Linear], Product]  # the layer's own weights may be dropped afterwards

# Weights that share a scale: as nearly all published checkpoints have it.
GROUP_WEIGHTS = 128


def product_maker(kind: Quantisation, device: torch.device) -> MakeProduct:
    """What makes products of this kind on this device.

    Raises:
        ModelError: the library is not installed, or there is none for it.
    """
    if device.type == "cpu" and kind == "int4":
        raise ModelError("target.quantisation = int4 needs a GPU; int8 works on a CPU")
    package = "torchao" if device.type == "cpu" else "humming-kernels"
    try:
        if device.type == "cpu":
            return _torchao(kind, device)
        return _eight_bit_floats(device) if kind == "fp8" else _humming(kind, device)
    except ImportError as error:
        raise ModelError(
            f"target.quantisation is {kind}, which needs {package} "
            "(pip install 'goodspeed[quantised]')"
        ) from error


def _humming(kind: Quantisation, device: torch.device) -> MakeProduct:
    import humming.layer  # noqa: F401 - missing packages are named before anything is loaded

    def make(linear: nn.Linear) -> Product:
        weight = linear.weight.detach()
        schema: dict[str, Any] = {"dtype": kind}
        # A scale for a whole row comes behind its sum, which float16 does not hold.
        if kind == "int4" or weight.dtype is torch.float16:
            if linear.in_features % GROUP_WEIGHTS:
                raise NotImplementedError(f"groups of {GROUP_WEIGHTS} weights do not fit")
            schema["group_size"] = GROUP_WEIGHTS
        return humming_product(
            schema,
            lambda layer: layer.load_from_unquantized(weight.to(device)),
            tuple(weight.shape),
            _bias_of(linear),
            device,
            weight.dtype,
        )

    return make


def humming_product(
    schema: dict[str, Any],
    load: Callable[[Any], None],
    shape: Sequence[int],
    bias: Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Product:
    """A product of humming; `load` fills its layer, `schema` says with which numbers."""
    from humming.layer import HummingLayer

    num_outputs, num_inputs = shape
    with torch.cuda.device(device):
        layer = HummingLayer(
            shape_n=num_outputs,
            shape_k=num_inputs,
            weight_config=schema,
            torch_dtype=dtype,
            has_bias=bias is not None,
        ).to(device)
        load(layer)
        if bias is not None:
            layer.bias.data.copy_(bias)
        layer.transform()

    def multiply(x: Tensor) -> Tensor:
        output: Tensor = layer(x.reshape(-1, num_inputs))
        return output.view(*x.shape[:-1], -1)

    return multiply


def _eight_bit_floats(device: torch.device) -> MakeProduct:
    # Triton is there only where a GPU is.
    from verifier.torch_target.kernels.row_quantisation import quantise_rows

    def make(linear: nn.Linear) -> Product:
        dtype, size = linear.weight.dtype, linear.in_features
        if size % 16 or linear.out_features % 16:
            raise NotImplementedError("the sizes are no multiples of 16")
        values, scales = quantise_rows(linear.weight.detach().to(device))
        bias = _bias_of(linear)
        return eight_bit_float_product(
            values, scales, None if bias is None else bias.to(device), dtype
        )

    return make


def eight_bit_float_product(
    values: Tensor, scales: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Product:
    """With `values` [out, in] float8 and `scales` [out, 1] float32, all on one GPU."""
    from verifier.torch_target.layers.row_product import RowProduct

    return RowProduct(values, scales, bias, dtype)


def _torchao(kind: Quantisation, device: torch.device) -> MakeProduct:
    # It warns of each of its compiled kernels that is not for this machine; none is needed here.
    logging.getLogger("torchao").setLevel(logging.ERROR)
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config = Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig()

    def make(linear: nn.Linear) -> Product:
        linear.requires_grad_(False)
        quantize_(linear, config, device=device)
        return linear.forward

    return make


def _bias_of(linear: nn.Linear) -> Tensor | None:
    bias: Tensor | None = linear.bias  # annotated as if there always were one
    return None if bias is None else bias.detach()
