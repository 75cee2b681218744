"""What a checkpoint of fewer bits says of itself is understood, or refused by the field."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import ModelError
from verifier.torch_target.model_files.checkpoint_scheme import CheckpointScheme, read_scheme

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
WEIGHTS = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}


def compressed(layout: str = "pack-quantized", **weights: Any) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {**WEIGHTS, **weights}}},
    }


@pytest.mark.parametrize("said", [None, {"quant_method": "mxfp4"}, {"quant_method": "fp8"}])
def test_what_transformers_reads_alone_has_no_scheme(said: object) -> None:
    assert read_scheme(said, "m") is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (AWQ, {"layout": "awq", "is_symmetric": False}),
        ({**AWQ, "group_size": -1}, {"group_weights": None}),
        (GPTQ, {"layout": "gptq", "zeros_lack_one": True, "is_symmetric": True}),
        ({**GPTQ, "checkpoint_format": "gptq_v2"}, {"zeros_lack_one": False}),
        ({**GPTQ, "desc_act": True, "sym": False}, {"has_order": True, "is_symmetric": False}),
        (compressed(), {"layout": "packed", "bits": 4, "group_weights": 128}),
        (compressed(num_bits=8), {"bits": 8}),
        (compressed(actorder="group"), {"has_order": True}),
        (compressed(actorder="static"), {"has_order": False}),
        (
            compressed("int-quantized", num_bits=8, strategy="channel"),
            {"layout": "int8", "bits": 8, "group_weights": None},
        ),
        (
            compressed("naive-quantized", num_bits=8, strategy="tensor", type="float"),
            {"layout": "fp8", "group_weights": None},
        ),
        (
            compressed(
                "float-quantized",
                num_bits=8,
                strategy="block",
                type="float",
                block_structure=[128, 64],
            ),
            {"layout": "fp8", "block": (128, 64), "group_weights": None},
        ),
        ({**compressed(), "kv_cache_scheme": {"num_bits": 8}}, {"has_cache_scales": True}),
        ({**compressed(), "sparsity_config": {"format": "dense"}}, {"layout": "packed"}),
    ],
)
def test_a_known_kind_is_understood(said: object, expected: dict[str, Any]) -> None:
    scheme = read_scheme(said, "m")
    assert isinstance(scheme, CheckpointScheme)
    assert expected == {name: getattr(scheme, name) for name in expected}


def test_the_groups_own_format_counts() -> None:
    said = compressed()
    said["config_groups"]["group_0"]["format"] = "pack-quantized"
    said["format"] = "mixed-precision"
    scheme = read_scheme(said, "m")
    assert scheme is not None
    assert "compressed-tensors, 4 bits" == str(scheme)


def two_groups() -> dict[str, Any]:
    said = compressed()
    said["config_groups"]["group_1"] = {"weights": {**WEIGHTS, "num_bits": 8}}
    return said


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("awq", "quantization_config is awq, which is not a table"),
        ({}, "quantization_config.quant_method is None, which is not awq or gptq or"),
        ({**GPTQ, "bits": 3}, "quantization_config.bits is 3, which is not 4 or 8"),
        ({**GPTQ, "bits": "4"}, "quantization_config.bits is 4, which is not 4 or 8"),
        ({**GPTQ, "bits": True}, "quantization_config.bits is True"),
        ({**GPTQ, "group_size": 0}, "quantization_config.group_size is 0"),
        ({**GPTQ, "group_size": 1.5}, "quantization_config.group_size is 1.5"),
        ({**GPTQ, "desc_act": "yes"}, "quantization_config.desc_act is yes"),
        (
            {**GPTQ, "checkpoint_format": "marlin"},
            "quantization_config.checkpoint_format is marlin",
        ),
        ({**GPTQ, "is_marlin_format": True}, "quantization_config.is_marlin_format is True"),
        ({**AWQ, "version": "gemv"}, "quantization_config.version is gemv, which is not gemm"),
        (compressed("nvfp4-pack-quantized"), "quantization_config.format is nvfp4-pack-quantized"),
        (compressed(num_bits=3), "config_groups.group_0.weights.num_bits is 3"),
        (compressed(type="float"), "weights.type is float, which is not int"),
        (compressed(strategy="block"), "weights.strategy is block"),
        (compressed(group_size=None), "weights.group_size is None"),
        (compressed(actorder="odd"), "weights.actorder is odd"),
        (
            compressed(
                "float-quantized", num_bits=8, type="float", strategy="block", block_structure=[0]
            ),
            "weights.block_structure is [0]",
        ),
        ({**compressed(), "config_groups": {}}, "quantization_config.config_groups is {}"),
        ({**compressed(), "config_groups": {"a": 3}}, "config_groups.a is 3"),
        ({**compressed(), "config_groups": {"a": {}}}, "config_groups.a.weights is None"),
        (two_groups(), "which is not the same in all groups"),
        ({**compressed(), "transform_config": {"a": 1}}, "quantization_config.transform_config is"),
        (
            {**compressed(), "sparsity_config": {"format": "sparse-24-bitmask"}},
            "quantization_config.sparsity_config.format is sparse-24-bitmask",
        ),
    ],
)
def test_what_is_not_known_is_refused_by_its_field(said: object, reason: str) -> None:
    with pytest.raises(ModelError) as raised:
        read_scheme(said, "m")
    assert str(raised.value).startswith("cannot load m as a target: quantization_config")
    assert reason in str(raised.value)
