"""What a checkpoint of fewer bits says of its weights: `quantization_config` in config.json.

It must never guess: what is not known here is refused with the name of the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from shared.errors import ModelError

Layout = Literal["awq", "gptq", "packed", "int8", "fp8"]

# Kinds that transformers widens to 16 bits by itself.
OF_TRANSFORMERS = frozenset({"mxfp4", "fp8"})

_FIELD = "quantization_config"
# By format and type of numbers, as compressed-tensors 0.20 writes them.
_COMPRESSED: Mapping[tuple[object, object], Layout] = MappingProxyType(
    {
        ("pack-quantized", "int"): "packed",
        ("int-quantized", "int"): "int8",
        ("naive-quantized", "int"): "int8",
        ("float-quantized", "float"): "fp8",
        ("naive-quantized", "float"): "fp8",
    }
)


class CheckpointScheme(msgspec.Struct, frozen=True, kw_only=True):
    """How the linear layers of a checkpoint are kept."""

    method: str
    layout: Layout
    bits: int
    group_weights: int | None = None
    """Weights of a row that share a scale; None: all of them."""
    block: tuple[int, int] | None = None
    """Rows × columns of a block that shares a scale, instead of a group."""
    zeros_lack_one: bool = False
    """Zero points are stored minus one, word by word."""
    has_order: bool = False
    """Inputs of a group do not stand together; the file says which do."""
    is_symmetric: bool = True
    has_cache_scales: bool = False
    """The file has scales of keys and values, too, which a cache of 16 bits does not need."""

    def __str__(self) -> str:
        return f"{self.method}, {self.bits} bits"


def read_scheme(said: object, source: object) -> CheckpointScheme | None:
    """By `quantization_config`; None: transformers alone reads such a checkpoint.

    Raises:
        ModelError: it is of a kind that is not known here, by the field that says so.
    """
    if said is None:
        return None
    fields = _Fields(said, source, _FIELD)
    method = fields.one_of("quant_method", *_READERS, *OF_TRANSFORMERS)
    return _READERS[method](fields) if method in _READERS else None


class _Fields:
    """The fields of a configuration, each checked as it is read."""

    def __init__(self, said: object, source: object, path: str) -> None:
        self._source, self._path = source, path
        if not isinstance(said, Mapping):
            raise self.error("", said, "a table")
        self._said = said

    def one_of(self, name: str, *known: Any, default: Any = None) -> Any:
        value = self._said.get(name, default)
        # 1 is not True here.
        if not any(value == other and type(value) is type(other) for other in known):
            raise self.error(name, value, " or ".join(map(str, known)))
        return value

    def group_weights(self, *, default: object = None) -> int | None:
        value = self._said.get("group_size", default)
        if value == -1:
            return None
        if type(value) is not int or value < 1:
            raise self.error("group_size", value, "a number of weights, or -1 for a whole row")
        return value

    def block(self) -> tuple[int, int]:
        value = self._said.get("block_structure")
        try:
            rows, columns = msgspec.convert(value, tuple[int, int])
        except msgspec.ValidationError:
            rows = columns = 0
        if rows < 1 or columns < 1:
            raise self.error("block_structure", value, "rows and columns of a block")
        return rows, columns

    def absent(self, name: str, what: str) -> None:
        if self._said.get(name):
            raise self.error(name, self._said[name], what)

    def has(self, name: str) -> bool:
        return bool(self._said.get(name))

    def tables(self, name: str) -> list[_Fields]:
        value = self._said.get(name)
        if not isinstance(value, Mapping) or not value:
            raise self.error(name, value, "a table of groups")
        return [
            _Fields(part, self._source, f"{self._path}.{name}.{key}") for key, part in value.items()
        ]

    def table(self, name: str) -> _Fields:
        return _Fields(self._said.get(name), self._source, f"{self._path}.{name}")

    def error(self, name: str, value: object, known: str) -> ModelError:
        field = f"{self._path}.{name}" if name else self._path
        return ModelError(
            f"cannot load {self._source} as a target: {field} is {value}, which is not {known}"
        )


def _awq(fields: _Fields) -> CheckpointScheme:
    fields.one_of("version", "gemm", default="gemm")
    return CheckpointScheme(
        method="awq",
        layout="awq",
        bits=fields.one_of("bits", 4),
        group_weights=fields.group_weights(),
        is_symmetric=False,
    )


def _gptq(fields: _Fields) -> CheckpointScheme:
    version = fields.one_of("checkpoint_format", "gptq", "gptq_v2", default="gptq")
    fields.one_of("pack_dtype", "int32", default="int32")
    fields.absent("is_marlin_format", "false")
    return CheckpointScheme(
        method="gptq",
        layout="gptq",
        bits=fields.one_of("bits", 4, 8),
        group_weights=fields.group_weights(),
        zeros_lack_one=version == "gptq",
        has_order=fields.one_of("desc_act", True, False, default=False),
        is_symmetric=fields.one_of("sym", True, False, default=True),
    )


def _compressed_tensors(fields: _Fields) -> CheckpointScheme:
    sparsity = fields.table("sparsity_config") if fields.has("sparsity_config") else None
    if sparsity is not None:
        sparsity.one_of("format", "dense", default="dense")
    fields.absent("transform_config", "empty: rotated weights are not known")
    groups = fields.tables("config_groups")
    schemes = [_compressed_group(group, fields) for group in groups]
    if any(scheme != schemes[0] for scheme in schemes):
        raise fields.error("config_groups", ", ".join(map(str, schemes)), "the same in all groups")
    return msgspec.structs.replace(schemes[0], has_cache_scales=fields.has("kv_cache_scheme"))


def _compressed_group(group: _Fields, whole: _Fields) -> CheckpointScheme:
    formats = {name for name, _ in _COMPRESSED}
    place = group if group.has("format") else whole
    layout_name = place.one_of("format", *sorted(map(str, formats)))
    weights = group.table("weights")
    kind = weights.one_of("type", *(kind for name, kind in _COMPRESSED if name == layout_name))
    layout = _COMPRESSED[layout_name, kind]
    block = ("block",) if layout == "fp8" else ()
    strategy = weights.one_of("strategy", "group", "channel", "tensor", *block)
    return CheckpointScheme(
        method="compressed-tensors",
        layout=layout,
        bits=weights.one_of("num_bits", *((4, 8) if layout == "packed" else (8,))),
        group_weights=weights.group_weights() if strategy == "group" else None,
        block=weights.block() if strategy == "block" else None,
        has_order=weights.one_of("actorder", None, "group", "weight", "static") == "group",
        is_symmetric=weights.one_of("symmetric", True, False, default=True),
    )


_READERS = MappingProxyType({"awq": _awq, "gptq": _gptq, "compressed-tensors": _compressed_tensors})
