"""From a layer's tensors in a file to its weight, one function for each public layout.

Sources: AWQ's order of columns is `awq.utils.packing_utils.AWQ_ORDER` (AutoAWQ 0.2.9); GPTQ's zero
points, stored minus one in its first version, are GPTQModel 7.7's `convert_gptq_v1_to_v2_format`;
compressed-tensors' words are its `pack_to_int32` (0.20). Tensors on the device `meta` give the
weight's sizes alone. This module must never read a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shared.errors import ModelError
from verifier.torch_target.layers.checkpoint_weights import (
    CheckpointWeight,
    FloatWeight,
    IntegerWeight,
    packed,
    unpacked,
)
from verifier.torch_target.model_files.checkpoint_scheme import CheckpointScheme

# Column 8 i + _AWQ_PLACES[j] of a matrix is the j-th lowest of a word's numbers, and so back.
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
_ONES = {4: 0x11111111, 8: 0x01010101}  # one for each number of a word
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


class LayerTensors:
    """What a file has of one layer; each tensor is checked as it is taken."""

    def __init__(self, tensors: Mapping[str, Tensor], name: str, source: object) -> None:
        self._tensors, self.name, self.source = tensors, name, source

    def has(self, tensor: str) -> bool:
        return tensor in self._tensors

    def sizes(self, tensor: str) -> Sequence[int]:
        """Its shape; a tensor that is not there has none."""
        return self._tensors[tensor].shape if tensor in self._tensors else (0,)

    def take(
        self, tensor: str, dtypes: Sequence[torch.dtype], shape: Sequence[int | None]
    ) -> Tensor:
        """The tensor; None in `shape` is any size.

        Raises:
            ModelError: it is not there, or of another dtype or shape.
        """
        found = self._tensors.get(tensor)
        if found is None:
            raise self.error(f"it has no {self.name}.{tensor}")
        if found.dtype not in dtypes:
            expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            dtype = str(found.dtype).removeprefix("torch.")
            raise self.error(f"its {self.name}.{tensor} is {dtype}, not {expected}")
        fits = [size in (None, own) for own, size in zip(found.shape, shape, strict=False)]
        if len(shape) != found.dim() or not all(fits):
            wanted = " × ".join("any" if size is None else str(size) for size in shape)
            raise self.error(
                f"its {self.name}.{tensor} has the shape {' × '.join(map(str, found.shape))}, "
                f"and what it says of itself needs {wanted}"
            )
        return found

    def error(self, reason: str) -> ModelError:
        return ModelError(f"cannot load {self.source} as a target: {reason}")


def read_weight(layer: LayerTensors, scheme: CheckpointScheme) -> CheckpointWeight:
    """The weight of a layer.

    Raises:
        ModelError: a tensor is missing, or is not what the scheme needs.
    """
    match scheme.layout:
        case "awq":
            return _awq(layer, scheme)
        case "gptq":
            return _gptq(layer, scheme)
        case "packed":
            return _packed(layer, scheme)
        case "int8":
            return _eight_bit_integers(layer, scheme)
        case "fp8":
            return _eight_bit_floats(layer, scheme)


def _awq(layer: LayerTensors, scheme: CheckpointScheme) -> IntegerWeight:
    words = layer.take("qweight", [torch.int32], (None, None))
    num_inputs, num_outputs = words.shape[0], 8 * words.shape[1]
    num_groups = _num_groups(layer, scheme, num_inputs)
    zero_words = layer.take("qzeros", [torch.int32], (num_groups, words.shape[1]))
    scales = layer.take("scales", _FLOATS, (num_groups, num_outputs))
    return _integer_weight(
        packed(_awq_columns(words).t(), scheme.bits),
        _awq_columns(zero_words).t(),
        scales.t(),
        scheme.bits,
        num_inputs,
    )


def _awq_columns(words: Tensor) -> Tensor:
    numbers = unpacked(words, 4).view(words.shape[0], -1, 8)
    return numbers[..., list(_AWQ_PLACES)].flatten(-2)


def _gptq(layer: LayerTensors, scheme: CheckpointScheme) -> IntegerWeight:
    bits, numbers_in_word = scheme.bits, 32 // scheme.bits
    words = layer.take("qweight", [torch.int32], (None, None))
    num_inputs, num_outputs = numbers_in_word * words.shape[0], words.shape[1]
    num_groups = _num_groups(layer, scheme, num_inputs)
    zero_words = layer.take(
        "qzeros", [torch.int32], (num_groups, -(-num_outputs // numbers_in_word))
    )
    scales = layer.take("scales", _FLOATS, (num_groups, num_outputs))
    if scheme.zeros_lack_one:
        zero_words = zero_words + _ONES[bits]
    zeros = unpacked(zero_words, bits)[:, :num_outputs].t()
    order = _input_order(layer, "g_idx", scheme, num_inputs, num_groups)
    return _integer_weight(words.t(), zeros, scales.t(), bits, num_inputs, order)


def _packed(layer: LayerTensors, scheme: CheckpointScheme) -> IntegerWeight:
    bits = scheme.bits
    sizes = layer.take("weight_shape", [torch.int64, torch.int32], (2,))
    num_outputs, num_inputs = map(int, sizes)
    num_words = -(-num_inputs * bits // 32)
    words = layer.take("weight_packed", [torch.int32], (num_outputs, num_words))
    num_groups = _num_groups(layer, scheme, num_inputs)
    scales = _row_scales(layer, num_outputs, num_groups)
    zeros = None
    if not scheme.is_symmetric:
        shape = (-(-num_outputs * bits // 32), num_groups)
        zero_words = layer.take("weight_zero_point", [torch.int32], shape)
        zeros = unpacked(zero_words.t(), bits)[:, :num_outputs].t()
    order = _input_order(layer, "weight_g_idx", scheme, num_inputs, num_groups)
    return _integer_weight(words, zeros, scales, bits, num_inputs, order)


def _eight_bit_integers(layer: LayerTensors, scheme: CheckpointScheme) -> IntegerWeight:
    integers = layer.take("weight", [torch.int8], (None, None))
    num_outputs, num_inputs = integers.shape
    num_groups = _num_groups(layer, scheme, num_inputs)
    scales = _row_scales(layer, num_outputs, num_groups)
    zeros = None
    if not scheme.is_symmetric:
        zeros = layer.take("weight_zero_point", [torch.int8], (None, num_groups))
        zeros = _from_zero(zeros).expand(num_outputs, num_groups)
    return _integer_weight(packed(_from_zero(integers), 8), zeros, scales, 8, num_inputs)


def _from_zero(integers: Tensor) -> Tensor:
    """From -128 … 127 to 0 … 255: the highest bit of int8 turned over."""
    return integers.view(torch.uint8) ^ 128


def _eight_bit_floats(layer: LayerTensors, scheme: CheckpointScheme) -> FloatWeight:
    values = layer.take("weight", [torch.float8_e4m3fn], (None, None))
    num_outputs, num_inputs = values.shape
    if scheme.block is None:
        num_groups = _num_groups(layer, scheme, num_inputs)
        return FloatWeight(values=values, scales=_row_scales(layer, num_outputs, num_groups))
    rows, columns = scheme.block
    if num_inputs % columns:
        raise layer.error(
            f"quantization_config.block_structure is {rows} × {columns}, which does not divide the "
            f"{num_inputs} inputs of {layer.name}"
        )
    shape = (-(-num_outputs // rows), num_inputs // columns)
    scales = layer.take("weight_scale", _FLOATS, shape).repeat_interleave(rows, dim=0)
    return FloatWeight(values=values, scales=scales[:num_outputs])


def _num_groups(layer: LayerTensors, scheme: CheckpointScheme, num_inputs: int) -> int:
    size = scheme.group_weights or num_inputs
    if num_inputs % size:
        raise layer.error(
            f"quantization_config.group_size is {size}, which does not divide the {num_inputs} "
            f"inputs of {layer.name}"
        )
    return num_inputs // size


def _row_scales(layer: LayerTensors, num_outputs: int, num_groups: int) -> Tensor:
    """[num_outputs, num_groups]; one scale of the whole layer is one of each row."""
    sizes = layer.sizes("weight_scale")
    if num_groups == 1 and math.prod(sizes) == 1:
        scales = layer.take("weight_scale", _FLOATS, sizes)
        return scales.reshape(1, 1).expand(num_outputs, 1)
    return layer.take("weight_scale", _FLOATS, (num_outputs, num_groups))


def _input_order(
    layer: LayerTensors, tensor: str, scheme: CheckpointScheme, num_inputs: int, num_groups: int
) -> Tensor | None:
    """The inputs, group by group; None: they stand so already."""
    if not (scheme.has_order or layer.has(tensor)):
        return None
    groups = layer.take(tensor, [torch.int32, torch.int64], (num_inputs,)).long()
    plain = torch.arange(num_inputs) // (num_inputs // num_groups)
    if torch.equal(groups, plain):
        return None
    order = groups.argsort(stable=True)
    if not torch.equal(groups[order], plain):
        raise layer.error(
            f"its {layer.name}.{tensor} does not name each of {num_groups} groups "
            f"{num_inputs // num_groups} times"
        )
    return order


def _integer_weight(
    words: Tensor,
    zeros: Tensor | None,
    scales: Tensor,
    bits: int,
    num_inputs: int,
    order: Tensor | None = None,
) -> IntegerWeight:
    """With its columns in the order of the groups."""
    if order is not None:
        words = packed(unpacked(words, bits)[:, order], bits)
    middle = 2 ** (bits - 1)
    if zeros is not None and not zeros.is_meta and bool((zeros == middle).all()):
        zeros = None
    return IntegerWeight(
        packed=words.contiguous(),
        bits=bits,
        num_inputs=num_inputs,
        scales=scales.contiguous(),
        zeros=None if zeros is None else zeros.contiguous(),
        input_order=order,
    )
