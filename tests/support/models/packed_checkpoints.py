"""Checkpoints of fewer bits, packed number by number as the tools that people use pack them.

AWQ as `WQLinear_GEMM.from_linear` (AutoAWQ 0.2.9), GPTQ as GPTQModel 7.7 with
`convert_gptq_v2_to_v1_format`, compressed-tensors as `pack_to_int32` (0.20): words are filled by
loops, so that what the verifier does with whole tensors is checked against something else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.support.models.architectures import Architecture
from tests.support.models.tiny_checkpoint import tiny_model, write_checkpoint

GROUP = 32
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True, slots=True)
class Packing:
    """One way to keep linear layers."""

    name: str
    said: Mapping[str, Any]  # quantization_config
    bits: int = 4
    group: int | None = GROUP
    is_symmetric: bool = False
    is_ordered: bool = True  # inputs of a group stand together
    kind: str = "int"
    block: int = 1  # rows that share scales


def _compressed(name: str, layout: str, weights: Mapping[str, Any], **fields: Any) -> Packing:
    said = {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }
    return Packing(name, MappingProxyType(said), **fields)


def _weights(bits: int, strategy: str, *, symmetric: bool = True, **more: Any) -> dict[str, Any]:
    group = {"group_size": GROUP} if strategy == "group" else {}
    kind = more.pop("type", "int")
    return {
        "num_bits": bits,
        "type": kind,
        "strategy": strategy,
        "symmetric": symmetric,
        **group,
        **more,
    }


_AWQ = {
    "quant_method": "awq",
    "bits": 4,
    "group_size": GROUP,
    "zero_point": True,
    "version": "gemm",
}
_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": False, "desc_act": False}

PACKINGS = (
    Packing("awq", _AWQ),
    Packing("awq, a row", {**_AWQ, "group_size": -1}, group=None),
    Packing("gptq", {**_GPTQ, "sym": True}, is_symmetric=True),
    Packing("gptq, zero points", _GPTQ),
    Packing("gptq, second version", {**_GPTQ, "checkpoint_format": "gptq_v2"}),
    Packing("gptq, ordered", {**_GPTQ, "desc_act": True}, is_ordered=False),
    Packing("gptq, 8 bits", {**_GPTQ, "bits": 8}, bits=8),
    _compressed("int4", "pack-quantized", _weights(4, "group"), is_symmetric=True),
    _compressed("int4, zero points", "pack-quantized", _weights(4, "group", symmetric=False)),
    _compressed(
        "int4, ordered",
        "pack-quantized",
        _weights(4, "group", actorder="group"),
        is_symmetric=True,
        is_ordered=False,
    ),
    _compressed(
        "int4, a row", "pack-quantized", _weights(4, "channel"), is_symmetric=True, group=None
    ),
    _compressed(
        "int8", "int-quantized", _weights(8, "channel"), bits=8, group=None, is_symmetric=True
    ),
    _compressed(
        "fp8",
        "float-quantized",
        _weights(8, "channel", type="float"),
        bits=8,
        group=None,
        kind="float",
    ),
    _compressed(
        "fp8, blocks",
        "float-quantized",
        _weights(8, "block", type="float", block_structure=[GROUP, GROUP]),
        bits=8,
        kind="float",
        block=GROUP,
    ),
)


@dataclass(slots=True)
class PackedLayer:
    """A layer's tensors in a file, and the weight that they are."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    weight: Tensor = field(default_factory=lambda: torch.empty(0))  # [outputs, inputs] float32


def packing_named(name: str) -> Packing:
    return next(packing for packing in PACKINGS if packing.name == name)


def write_packed(
    packing: Packing, directory: Path, architecture: Architecture
) -> tuple[Any, dict[str, PackedLayer]]:
    """A checkpoint in `directory`; transformers' model of the same weights, and all layers."""
    write_checkpoint(tiny_model(architecture), directory)
    path = directory / "model.safetensors"
    tensors = load_file(path)
    layers = {
        name.removesuffix(".weight"): pack_layer(packing, tensors[name])
        for name in tensors
        if tensors[name].dim() == 2
        and ".layers." in name
        and "router" not in name
        and not name.endswith(".gate.weight")
    }
    for name, layer in layers.items():
        tensors[f"{name}.weight"] = layer.weight
    save_file(tensors, path, metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    for name, layer in layers.items():
        del tensors[f"{name}.weight"]
        tensors.update({f"{name}.{part}": tensor for part, tensor in layer.tensors.items()})
    save_file(tensors, path, metadata={"format": "pt"})
    change_config(directory, quantization_config=dict(packing.said))
    return model, layers


def change_config(directory: Path, **fields: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def pack_layer(packing: Packing, weight: Tensor) -> PackedLayer:
    """The layer of a weight [outputs, inputs], rounded."""
    if packing.kind == "float":
        return _floats(packing, weight)
    num_outputs, num_inputs = weight.shape
    size = packing.group or num_inputs
    groups = torch.arange(num_inputs) // size
    if not packing.is_ordered:
        groups = groups[torch.randperm(num_inputs, generator=torch.Generator().manual_seed(3))]
    num_groups = num_inputs // size
    top = 2**packing.bits - 1
    scales, zeros = torch.empty(num_outputs, num_groups), torch.empty(num_outputs, num_groups)
    for group in range(num_groups):
        part = weight[:, groups == group]
        low, high = part.amin(1), part.amax(1)
        if packing.is_symmetric:
            scales[:, group] = part.abs().amax(1) / (top // 2)
            zeros[:, group] = (top + 1) // 2
        else:
            scales[:, group] = (high - low) / top
            zeros[:, group] = (-low / scales[:, group]).round().clamp(0, top)
    scales = scales.half().float()
    integers = (weight / scales[:, groups] + zeros[:, groups]).round().clamp(0, top)
    rounded = (integers - zeros[:, groups]) * scales[:, groups]
    pack = {"awq": _awq, "gptq": _gptq, "compressed-tensors": _integers}
    tensors = pack[packing.said["quant_method"]](packing, integers.long(), scales, zeros.long())
    if packing.said["quant_method"] == "gptq":
        tensors["g_idx"] = groups.int()
    elif not packing.is_ordered:
        tensors["weight_g_idx"] = groups.int()
    return PackedLayer({k: t.contiguous() for k, t in tensors.items()}, rounded)


def _words(numbers: Tensor, bits: int, order: tuple[int, ...] | None = None) -> Tensor:
    """[rows, n] to [rows, words], one number after the other."""
    in_word = 32 // bits
    order = order or tuple(range(in_word))
    num_words = -(-numbers.shape[1] // in_word)
    words = torch.zeros(numbers.shape[0], num_words, dtype=torch.int64)
    for word in range(num_words):
        for place, column in enumerate(order):
            if word * in_word + column < numbers.shape[1]:
                words[:, word] |= numbers[:, word * in_word + column] << (bits * place)
    return torch.where(words >= 2**31, words - 2**32, words).int()


def _awq(packing: Packing, integers: Tensor, scales: Tensor, zeros: Tensor) -> dict[str, Tensor]:
    return {
        "qweight": _words(integers.t(), 4, _AWQ_ORDER),
        "qzeros": _words(zeros.t(), 4, _AWQ_ORDER),
        "scales": scales.t().half(),
    }


def _gptq(packing: Packing, integers: Tensor, scales: Tensor, zeros: Tensor) -> dict[str, Tensor]:
    zero_words = _words(zeros.t(), packing.bits)
    if packing.said.get("checkpoint_format") != "gptq_v2":
        zero_words -= 0x11111111 if packing.bits == 4 else 0x01010101
    return {
        "qweight": _words(integers, packing.bits).t(),
        "qzeros": zero_words,
        "scales": scales.t().half(),
    }


def _integers(
    packing: Packing, integers: Tensor, scales: Tensor, zeros: Tensor
) -> dict[str, Tensor]:
    tensors = {"weight_scale": scales.half()}
    if packing.said["format"] == "int-quantized":
        return {**tensors, "weight": (integers - 128).to(torch.int8)}
    tensors["weight_packed"] = _words(integers, packing.bits)
    tensors["weight_shape"] = torch.tensor(integers.shape)
    if not packing.is_symmetric:
        tensors["weight_zero_point"] = _words(zeros.t(), packing.bits).t()
    return tensors


def _floats(packing: Packing, weight: Tensor) -> PackedLayer:
    num_outputs, num_inputs = weight.shape
    size = packing.group or num_inputs
    blocks = weight.view(num_outputs // packing.block, packing.block, num_inputs // size, size)
    scales = (blocks.abs().amax((1, 3)) / 448).bfloat16()
    wide = scales.float()[:, None, :, None].expand_as(blocks).reshape_as(weight)
    values = (weight / wide).to(torch.float8_e4m3fn)
    tensors = {"weight": values, "weight_scale": scales, "input_scale": torch.ones(1)}
    return PackedLayer(tensors, values.float() * wide)
