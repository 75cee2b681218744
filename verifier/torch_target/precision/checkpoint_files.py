"""A safetensors directory with weights of fewer bits: its layers, and all else as it is there.

transformers would need a package for each kind, for a GPU. It must never leave out a tensor that
it does not know: those go on to transformers, which refuses them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import torch
from safetensors import safe_open
from torch import Tensor

from shared.errors import ModelError
from verifier.torch_target.layers.checkpoint_weights import CheckpointWeight
from verifier.torch_target.model_files.checkpoint_scheme import CheckpointScheme, Layout
from verifier.torch_target.precision.checkpoint_layouts import LayerTensors, read_weight

_WORDS = ("qweight", "qzeros", "scales", "g_idx")
_PARTS: Mapping[Layout, tuple[str, ...]] = MappingProxyType(
    {
        "awq": _WORDS,
        "gptq": _WORDS,
        "packed": (
            "weight_packed",
            "weight_scale",
            "weight_shape",
            "weight_zero_point",
            "weight_g_idx",
        ),
        "int8": ("weight_scale", "weight_zero_point"),
        "fp8": ("weight_scale",),
    }
)
# Read even where only sizes are asked for: sizes depend on them.
_SMALL = ("weight_shape", "g_idx", "weight_g_idx")
# Of activations, which are not rounded here; and of a cache in 8 bits, which ours is not.
_OF_ACTIVATIONS = re.compile(r"\.(input_scale|input_zero_point)$")
_OF_CACHE = re.compile(r"\.[kqv]_scale$")


class QuantisedCheckpoint(msgspec.Struct, frozen=True):
    """All that the files have."""

    weights: dict[str, CheckpointWeight]  # by the layer's name
    tensors: dict[str, Tensor]  # all others, by their own


def read_checkpoint(
    directory: Path, scheme: CheckpointScheme, *, only_sizes: bool = False
) -> QuantisedCheckpoint:
    """What is in a directory; `only_sizes`: with tensors on the device `meta`.

    Raises:
        ModelError: a file or a tensor is missing, or a layer is not what the scheme needs.
    """
    tensors = {}
    for path in safetensors_files(directory):
        tensors.update(_tensors(path, only_sizes=only_sizes))
    layers = _take_layers(tensors, scheme)
    if not layers:
        raise ModelError(
            f"cannot load {directory} as a target: quantization_config says {scheme}, but no "
            f"tensor is named …{_PARTS[scheme.layout][0]}"
        )
    for name, tensor in tensors.items():
        if tensor.dtype not in _WHOLE:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(
                f"cannot load {directory} as a target: its {name} is {dtype}, and no scale "
                "belongs to it"
            )
    weights = {}
    for name in list(layers):  # each is dropped as soon as it is unpacked: they are large
        weights[name] = read_weight(LayerTensors(layers.pop(name), name, directory), scheme)
    return QuantisedCheckpoint(weights, tensors)


def safetensors_files(directory: Path) -> list[Path]:
    """The files with a model's tensors.

    Raises:
        ModelError: one is missing, or there are none.
    """
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        try:
            places = msgspec.convert(json.loads(index.read_bytes())["weight_map"], dict[str, str])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{index} is no list of tensors: {error}") from error
        paths = [directory / Path(name).name for name in sorted(set(places.values()))]
    else:  # GPTQ's own tools name it after the model
        paths = sorted(directory.glob("*.safetensors"))
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        what = missing[0] if missing else "model.safetensors"
        raise ModelError(f"cannot load {directory} as a target: {what} is not there")
    return paths


def _tensors(path: Path, *, only_sizes: bool) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        if not only_sizes:
            return {name: file.get_tensor(name) for name in names}
        return {name: _outline(file, name) for name in names}


def _outline(file: Any, name: str) -> Tensor:
    if name.rpartition(".")[2] in _SMALL:
        tensor: Tensor = file.get_tensor(name)
        return tensor
    sizes = file.get_slice(name)
    dtype = _DTYPES.get(sizes.get_dtype(), torch.uint8)  # which no model has, nor a scheme
    return torch.empty(sizes.get_shape(), dtype=dtype, device="meta")


# What stands beside layers of fewer bits; int64 and bool are positions and masks of old files.
_WHOLE = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.bool,
)
# By safetensors' names; others have no place in a model.
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def _take_layers(
    tensors: dict[str, Tensor], scheme: CheckpointScheme
) -> dict[str, dict[str, Tensor]]:
    """The tensors of quantised layers, out of all; what is not needed is dropped."""
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name in list(tensors):
        layer, _, part = name.rpartition(".")
        if part in _PARTS[scheme.layout]:
            layers[layer][part] = tensors.pop(name)
        elif _OF_ACTIVATIONS.search(name) or (scheme.has_cache_scales and _OF_CACHE.search(name)):
            del tensors[name]
    if scheme.layout in ("int8", "fp8"):
        for layer, parts in layers.items():
            if f"{layer}.weight" in tensors:
                parts["weight"] = tensors.pop(f"{layer}.weight")
    return dict(layers)
