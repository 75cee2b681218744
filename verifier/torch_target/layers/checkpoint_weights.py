"""Weights of fewer bits as a checkpoint brings them: its own numbers, whatever its layout was.

They are never rounded a second time: what has no product for them widens them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

_WORD_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerWeight:
    """Weights (integer - zero point) × scale; rows are outputs, columns inputs."""

    packed: Tensor  # [num_outputs, words] int32, the first column in the lowest bits
    bits: int  # 4 or 8
    num_inputs: int
    scales: Tensor  # [num_outputs, groups], of one column after the other
    zeros: Tensor | None  # [num_outputs, groups] uint8; None: the middle of the range
    input_order: Tensor | None  # [num_inputs] int64: which input a column belongs to; None: its own

    @property
    def num_outputs(self) -> int:
        return self.packed.shape[0]

    @property
    def group_weights(self) -> int:
        """Columns that share a scale."""
        return self.num_inputs // self.scales.shape[1]

    @property
    def num_bytes(self) -> int:
        parts = (self.packed, self.scales, self.zeros, self.input_order)
        return sum(part.nbytes for part in parts if part is not None)

    def widened(self, dtype: torch.dtype) -> Tensor:
        """[num_outputs, num_inputs], computed in float32 and rounded once."""
        integers = unpacked(self.packed, self.bits)[:, : self.num_inputs].float()
        grouped = integers.view(self.num_outputs, self.scales.shape[1], -1)
        zeros = 2 ** (self.bits - 1) if self.zeros is None else self.zeros.float()[..., None]
        weights = ((grouped - zeros) * self.scales.float()[..., None]).view_as(integers).to(dtype)
        if self.input_order is None:
            return weights
        return torch.empty_like(weights).index_copy_(1, self.input_order, weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatWeight:
    """Weights of eight-bit floats × scale."""

    values: Tensor  # [num_outputs, num_inputs] float8
    scales: Tensor  # [num_outputs, groups]

    @property
    def num_outputs(self) -> int:
        return self.values.shape[0]

    @property
    def num_inputs(self) -> int:
        return self.values.shape[1]

    @property
    def num_bytes(self) -> int:
        return self.values.nbytes + self.scales.nbytes

    def widened(self, dtype: torch.dtype) -> Tensor:
        """[num_outputs, num_inputs], computed in float32 and rounded once."""
        group_weights = -(-self.num_inputs // self.scales.shape[1])
        scales = self.scales.float().repeat_interleave(group_weights, dim=1)
        return (self.values.float() * scales[:, : self.num_inputs]).to(dtype)


CheckpointWeight = IntegerWeight | FloatWeight


class CheckpointLinear(nn.Module):
    """Stands in the place of a linear layer until the device's product takes its weight over.

    The weight is no parameter, so that nothing looks for it in the files or casts it.
    """

    def __init__(self, weight: CheckpointWeight, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.quantised = weight
        self.bias = bias
        self.in_features = weight.num_inputs
        self.out_features = weight.num_outputs


def place_weights(model: nn.Module, weights: dict[str, CheckpointWeight]) -> None:
    """Give the linear layers of these names weights of a checkpoint; their own are dropped."""
    for name, weight in weights.items():
        parent, _, child = name.rpartition(".")
        bias: nn.Parameter | None = model.get_submodule(name).bias  # type: ignore[assignment]
        setattr(model.get_submodule(parent), child, CheckpointLinear(weight, bias))


def can_stand_beside(weights: Sequence[CheckpointWeight]) -> bool:
    """Whether they can be one weight: their inputs are grouped and ordered alike."""
    first = weights[0]
    if isinstance(first, FloatWeight):
        sizes = (first.scales.shape[1], first.num_inputs)
        return all(
            isinstance(w, FloatWeight) and sizes == (w.scales.shape[1], w.num_inputs)
            for w in weights
        )
    return all(isinstance(w, IntegerWeight) and _is_alike(w, first) for w in weights)


def beside(weights: Sequence[CheckpointWeight]) -> CheckpointWeight:
    """One weight with the outputs of all, which can stand beside each other."""
    first = weights[0]
    if len(weights) == 1:
        return first
    if isinstance(first, FloatWeight):
        floats = [w for w in weights if isinstance(w, FloatWeight)]
        values = torch.cat([w.values.view(torch.uint8) for w in floats]).view(first.values.dtype)
        return FloatWeight(values=values, scales=torch.cat([w.scales for w in floats]))
    integers = [w for w in weights if isinstance(w, IntegerWeight)]
    zeros = [w.zeros for w in integers if w.zeros is not None]
    return replace(
        first,
        packed=torch.cat([w.packed for w in integers]),
        scales=torch.cat([w.scales for w in integers]),
        zeros=torch.cat(zeros) if zeros else None,
    )


def _is_alike(weight: IntegerWeight, other: IntegerWeight) -> bool:
    order, others_order = weight.input_order, other.input_order
    has_same_order = order is others_order or (
        order is not None and others_order is not None and torch.equal(order, others_order)
    )
    return (
        has_same_order
        and (weight.bits, weight.num_inputs) == (other.bits, other.num_inputs)
        and weight.scales.shape[1] == other.scales.shape[1]
        and (weight.zeros is None) == (other.zeros is None)
    )


def unpacked(words: Tensor, bits: int) -> Tensor:
    """Integers of 4 or 8 bits in words of 32, the lowest bits first: [..., words] to [..., n]."""
    # Of a little-endian machine, as safetensors is.
    numbers = words.contiguous().view(torch.uint8)
    if bits == 8:
        return numbers
    return torch.stack((numbers & 15, numbers >> 4), dim=-1).flatten(-2)


def packed(integers: Tensor, bits: int) -> Tensor:
    """The reverse of `unpacked`; the last word is filled up with zeros."""
    missing = -integers.shape[-1] % (_WORD_BITS // bits)
    numbers = nn.functional.pad(integers, (0, missing))
    if bits == 4:
        numbers = numbers[..., ::2] | numbers[..., 1::2] << 4
    # A turned row counts as contiguous, whatever its strides are; a copy has those of its shape.
    return numbers.clone(memory_format=torch.contiguous_format).view(torch.int32)
