"""Products with the numbers that a checkpoint of fewer bits brings, as they are.

On a GPU integers are humming's and 8-bit floats torch's, as where weights are quantised here; on a
CPU torch's own product of 4 bits in bfloat16. In float32 that one takes twenty times as long as
that of whole weights (8 rows, 4096², 2 cores of an EPYC 9005, torch 2.13): there they are widened.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import torch
from torch import Tensor

from verifier.torch_target.layers.checkpoint_weights import (
    CheckpointWeight,
    FloatWeight,
    IntegerWeight,
    packed,
    unpacked,
)
from verifier.torch_target.precision.gpu_limits import FP8_CAPABILITY
from verifier.torch_target.precision.weight_products import (
    Product,
    eight_bit_float_product,
    humming_product,
)

# Weights that share a scale: what nearly all checkpoints have, and the kernels are tuned for.
_GROUP_WEIGHTS = frozenset({32, 64, 128})
_MULTIPLE = 16  # of the sizes that tensor cores take, and of outputs in torch's packing


def obstacle(weight: CheckpointWeight, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why this weight has no product here and must be widened; None: it has one."""
    if device.type == "cpu":
        return _obstacle_on_cpu(weight, dtype)
    if dtype not in (torch.bfloat16, torch.float16):
        return "target.dtype is float32"
    if weight.num_outputs % _MULTIPLE or weight.num_inputs % (2 * _MULTIPLE):
        return f"a layer has {weight.num_outputs} × {weight.num_inputs} weights"
    if isinstance(weight, FloatWeight):
        if torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
            return "the GPU has no 8-bit floats"
        return "the scales are of blocks" if weight.scales.shape[1] > 1 else None
    if importlib.util.find_spec("humming") is None:
        return "humming-kernels is not installed (pip install 'goodspeed[quantised]')"
    return _obstacle_of_groups(weight)


def _obstacle_on_cpu(weight: CheckpointWeight, dtype: torch.dtype) -> str | None:
    if isinstance(weight, FloatWeight) or weight.bits != 4:
        return "on a CPU weights of 8 bits have no product"
    if dtype is not torch.bfloat16:
        return "on a CPU target.dtype = bfloat16 keeps 4 bits"
    if weight.num_outputs % _MULTIPLE or weight.group_weights not in _GROUP_WEIGHTS:
        return f"a layer has {weight.num_outputs} outputs and groups of {weight.group_weights}"
    return None


def _obstacle_of_groups(weight: IntegerWeight) -> str | None:
    is_row = weight.scales.shape[1] == 1
    if weight.group_weights not in _GROUP_WEIGHTS and not is_row:
        return f"{weight.group_weights} weights share a scale"
    return None


def product_of(
    weight: CheckpointWeight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> Product:
    """The product with a weight for which there is no obstacle."""
    bias = None if bias is None else bias.detach().to(device)
    if isinstance(weight, FloatWeight):
        scales = weight.scales.to(device, torch.float32).contiguous()
        return eight_bit_float_product(weight.values.to(device), scales, bias, dtype)
    of_device = _of_cpu if device.type == "cpu" else _of_gpu
    product = of_device(weight, bias, device, dtype)
    if weight.input_order is None:
        return product
    order = weight.input_order.to(device)
    return lambda rows: product(rows.index_select(-1, order))


def _of_gpu(
    weight: IntegerWeight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> Product:
    if dtype is torch.float16:
        weight = scaled_by_groups(weight)
    is_row = weight.scales.shape[1] == 1
    schema = {
        "dtype": f"uint{weight.bits}",
        "group_size": 0 if is_row else weight.group_weights,
        "has_zero_point": weight.zeros is not None,
    }
    shape = (weight.num_outputs, weight.num_inputs)
    tensors = humming_tensors(weight, dtype)
    return humming_product(
        schema, lambda layer: layer.load_from_tensors(tensors), shape, bias, device, dtype
    )


def scaled_by_groups(weight: IntegerWeight) -> IntegerWeight:
    """The same weight with a scale, and a zero point, for each group of a row.

    humming multiplies by scales of rows behind the sum, which float16 does not hold: 64 activations
    of 8 with integers of 127 are more than its 65,504.
    """
    if weight.scales.shape[1] > 1:
        return weight
    group_weights = max(size for size in _GROUP_WEIGHTS if weight.num_inputs % size == 0)
    repeats = (1, weight.num_inputs // group_weights)
    zeros = None if weight.zeros is None else weight.zeros.repeat(repeats)
    return replace(weight, scales=weight.scales.repeat(repeats), zeros=zeros)


def humming_tensors(weight: IntegerWeight, dtype: torch.dtype) -> dict[str, Tensor]:
    """As humming's own schema has them: its words are ours, zero points share words by outputs."""
    tensors = {"weight": weight.packed, "weight_scale": weight.scales.to(dtype)}
    if weight.zeros is not None:
        tensors["zero_point"] = packed(weight.zeros.t(), weight.bits).t().contiguous()
    return tensors


def _of_cpu(
    weight: IntegerWeight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> Product:
    integers = unpacked(weight.packed, weight.bits)[:, : weight.num_inputs].int()
    words = torch.ops.aten._convert_weight_to_int4pack_for_cpu(integers.to(device), 1)
    # Its product is (integer - 8) × scale + zero, one pair for each group and output.
    scales = weight.scales.float()
    zeros = torch.zeros_like(scales)
    if weight.zeros is not None:
        zeros = (8 - weight.zeros.float()) * scales
    pairs = torch.stack((scales, zeros), dim=-1).transpose(0, 1).to(dtype).contiguous()
    size, num_outputs, group_weights = weight.num_inputs, weight.num_outputs, weight.group_weights

    def multiply(x: Tensor) -> Tensor:
        rows = x.reshape(-1, size)
        if not rows.shape[0]:
            return x.new_empty(*x.shape[:-1], num_outputs)
        output: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            rows, words, group_weights, pairs
        )
        return (output if bias is None else output + bias).view(*x.shape[:-1], -1)

    return multiply
