"""Products with a checkpoint's own numbers are those of its widened weights, rounded once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.support.models.packed_checkpoints import PACKINGS, Packing, pack_layer, packing_named
from verifier.torch_target.layers.checkpoint_weights import (
    IntegerWeight,
    beside,
    can_stand_beside,
    packed,
    unpacked,
)
from verifier.torch_target.model_files.checkpoint_scheme import read_scheme
from verifier.torch_target.precision.checkpoint_layouts import LayerTensors, read_weight
from verifier.torch_target.precision.checkpoint_products import (
    humming_tensors,
    obstacle,
    product_of,
    scaled_by_groups,
)

CPU = torch.device("cpu")
INTEGERS = [packing for packing in PACKINGS if packing.kind == "int"]
KEPT = [packing for packing in INTEGERS if packing.bits == 4 and packing.group]


def by_name(packing: Packing) -> str:
    return packing.name


def weight_of(packing: Packing, shift: float = 0.0) -> tuple[IntegerWeight, torch.Tensor]:
    torch.manual_seed(0)
    layer = pack_layer(packing, torch.randn(48, 96) + shift)
    scheme = read_scheme(dict(packing.said), "tiny")
    assert scheme is not None
    weight = read_weight(LayerTensors(layer.tensors, "layer", "tiny"), scheme)
    assert isinstance(weight, IntegerWeight)
    return weight, layer.weight


@pytest.mark.parametrize("packing", INTEGERS, ids=by_name)
def test_widened_weights_are_the_packed_ones_to_the_last_bit(packing: Packing) -> None:
    weight, expected = weight_of(packing)
    assert torch.equal(expected, weight.widened(torch.float32))
    assert torch.equal(expected.bfloat16(), weight.widened(torch.bfloat16))


@pytest.mark.parametrize("name", ["awq", "gptq, zero points", "gptq, 8 bits", "int4, zero points"])
def test_zero_points_may_be_zero(name: str) -> None:
    """The first version of GPTQ stores them minus one, borrowed from the next of the word."""
    weight, expected = weight_of(packing_named(name), shift=3.0)
    assert weight.zeros is not None
    assert 0 == weight.zeros.min() < weight.zeros.max()
    assert torch.equal(expected, weight.widened(torch.float32))


@pytest.mark.parametrize("packing", KEPT, ids=by_name)
def test_the_product_of_a_cpu_is_that_of_the_widened_weights(packing: Packing) -> None:
    """In float32, where a rounding of integers or scales would show; users have it in bfloat16."""
    weight, expected = weight_of(packing)
    rows, bias = torch.randn(2, 5, 96), torch.randn(48)
    output = product_of(weight, bias, CPU, torch.float32)(rows)
    torch.testing.assert_close(output, rows @ expected.t() + bias, rtol=1e-5, atol=1e-5)
    assert (2, 0, 48) == product_of(weight, None, CPU, torch.float32)(rows[:, :0]).shape


@pytest.mark.parametrize("packing", KEPT, ids=by_name)
def test_in_bfloat16_a_cpu_keeps_four_bits(packing: Packing) -> None:
    weight, expected = weight_of(packing)
    assert obstacle(weight, CPU, torch.bfloat16) is None
    assert obstacle(weight, CPU, torch.float32) == "on a CPU target.dtype = bfloat16 keeps 4 bits"
    rows = torch.randn(5, 96).bfloat16()
    output = product_of(weight, None, CPU, torch.bfloat16)(rows).float()
    exact = rows.float() @ expected.t()
    assert (output - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("packing", INTEGERS, ids=by_name)
def test_humming_gets_the_same_numbers(packing: Packing) -> None:
    """By its own `dequantize_weight` (0.1.19), written out here: that needs a GPU."""
    weight, expected = weight_of(packing)
    tensors = humming_tensors(weight, torch.float16)
    num_groups = tensors["weight_scale"].shape[1]
    integers = unpacked(tensors["weight"], weight.bits).float().view(48, num_groups, -1)
    zeros = torch.full((48, num_groups), 2.0 ** (weight.bits - 1))
    if "zero_point" in tensors:
        assert (48 * weight.bits // 32, num_groups) == tensors["zero_point"].shape
        zeros = unpacked(tensors["zero_point"].t(), weight.bits).t().float()
    scales = tensors["weight_scale"].float()
    columns = ((integers - zeros[..., None]) * scales[..., None]).view(48, 96)
    order = torch.arange(96) if weight.input_order is None else weight.input_order
    assert torch.equal(expected[:, order], columns)


@pytest.mark.parametrize("name", ["awq, a row", "int4, a row", "int8"])
def test_a_row_may_have_its_scale_in_groups(name: str) -> None:
    """For float16: a sum of unscaled integers is more than it holds."""
    weight, expected = weight_of(packing_named(name))
    grouped = scaled_by_groups(weight)
    assert (1, 3) == (weight.scales.shape[1], grouped.scales.shape[1])
    assert 32 == grouped.group_weights
    assert torch.equal(expected, grouped.widened(torch.float32))


def test_groups_stay_as_they_are() -> None:
    weight, _ = weight_of(packing_named("awq"))
    assert scaled_by_groups(weight) is weight


@pytest.mark.parametrize("packing", PACKINGS, ids=by_name)
def test_layers_beside_each_other_give_both_outputs(packing: Packing) -> None:
    scheme = read_scheme(dict(packing.said), "tiny")
    assert scheme is not None
    layers = [pack_layer(packing, torch.randn(num_outputs, 96)) for num_outputs in (32, 64)]
    weights = [read_weight(LayerTensors(each.tensors, "layer", "tiny"), scheme) for each in layers]
    assert can_stand_beside(weights)
    expected = torch.cat([layer.weight for layer in layers])
    assert torch.equal(expected, beside(weights).widened(torch.float32))


def test_layers_of_different_orders_do_not_stand_beside_each_other() -> None:
    first, _ = weight_of(packing_named("gptq, ordered"))
    second, _ = weight_of(packing_named("gptq, zero points"))
    assert not can_stand_beside([first, second])
    assert can_stand_beside([first, first])


@pytest.mark.parametrize("bits", [4, 8])
def test_words_hold_all_integers(bits: int) -> None:
    integers = torch.randint(0, 2**bits, (3, 37), dtype=torch.uint8)
    words = packed(integers, bits)
    assert (3, -(-37 * bits // 32)) == words.shape
    assert torch.equal(integers, unpacked(words, bits)[:, :37])


GPU = torch.device("cuda")


def test_a_gpu_keeps_numbers_if_a_library_multiplies_them(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, _ = weight_of(packing_named("awq"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "humming-kernels is not installed (pip install 'goodspeed[quantised]')" == obstacle(
        weight, GPU, torch.bfloat16
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert obstacle(weight, GPU, torch.bfloat16) is None
    assert "target.dtype is float32" == obstacle(weight, GPU, torch.float32)
    for name in ("gptq, ordered", "gptq, 8 bits", "int4, a row", "int8"):
        assert obstacle(weight_of(packing_named(name))[0], GPU, torch.float16) is None
    odd = replace(weight, scales=weight.scales[:, :1].repeat(1, 6), zeros=None)
    assert "16 weights share a scale" == obstacle(odd, GPU, torch.bfloat16)


@pytest.mark.parametrize(
    ("name", "capability", "reason"),
    [
        ("fp8", (9, 0), None),
        ("fp8", (8, 0), "the GPU has no 8-bit floats"),
        ("fp8, blocks", (9, 0), "the scales are of blocks"),
    ],
)
def test_eight_bit_floats_are_kept_where_the_gpu_has_them(
    name: str, capability: tuple[int, int], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    packing = packing_named(name)
    scheme = read_scheme(dict(packing.said), "tiny")
    assert scheme is not None
    layer = pack_layer(packing, torch.randn(32, 96))
    weight = read_weight(LayerTensors(layer.tensors, "layer", "tiny"), scheme)
    assert reason == obstacle(weight, GPU, torch.bfloat16)


@pytest.mark.parametrize("bits", [4, 8])
def test_numbers_of_one_group_are_packed_as_those_of_many(bits: int) -> None:
    """A column that is turned into a row keeps its strides, though it counts as contiguous."""
    column = torch.arange(16, dtype=torch.uint8)[:, None] % 16
    assert torch.equal(column.t(), unpacked(packed(column.t(), bits), bits))
