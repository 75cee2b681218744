"""Layers whose products are of 8-bit floats hand rows and scales on without changing the model.

Runs on a GPU that has such numbers; without one through Triton's interpreter, where Triton is
installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.models.paged_rounds import HEAD_DIM, ROUNDS, SHAPE, paged_logits
from tests.support.models.tiny_models import tiny_llama, tiny_qwen3
from tests.support.models.triton_kernels import DEVICE, IS_INTERPRETED, import_triton
from verifier.torch_target.forward.block_cache import BlockCache
from verifier.torch_target.precision.quantisation import quantisable, replace_linears
from verifier.torch_target.precision.weight_products import eight_bit_float_product

import_triton()

from verifier.torch_target.kernels.norm_form import NormForm  # noqa: E402
from verifier.torch_target.kernels.norms import add_rms_norm, add_rms_norm_rows  # noqa: E402
from verifier.torch_target.kernels.row_quantisation import (  # noqa: E402
    EightBitRows,
    ScaledSums,
    add_scaled,
    quantise_rows,
)
from verifier.torch_target.layers import layer_checks, row_product  # noqa: E402
from verifier.torch_target.layers.fused_attention import FusedAttention  # noqa: E402
from verifier.torch_target.layers.fused_residuals import PreNormLayer  # noqa: E402
from verifier.torch_target.layers.row_product import RowProduct  # noqa: E402

# What the interpreter computes for rows that a tile leaves unused.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


# Of the numbers' size: the interpreter cuts off where a GPU rounds.
STEP, ROUNDING = (0.08, 0.01) if IS_INTERPRETED else (0.03, 0.0)


def made(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=DEVICE, dtype=dtype)


def widened(rows: EightBitRows) -> Tensor:
    return rows.values.float() * rows.scales


def product(num_outputs: int, num_inputs: int, dtype: torch.dtype = torch.bfloat16) -> RowProduct:
    values, scales = quantise_rows(made(num_outputs, num_inputs, seed=1, dtype=dtype))
    made_product = eight_bit_float_product(values, scales, None, dtype)
    assert isinstance(made_product, RowProduct)
    return made_product


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


def test_rows_keep_their_numbers_up_to_a_step() -> None:
    x = made(5, 48)
    rows = quantise_rows(x)
    assert torch.float8_e4m3fn == rows.values.dtype
    assert distance(widened(rows), x) < STEP
    largest = rows.values.float().abs().amax(dim=1)
    assert torch.equal(torch.full_like(largest, 448.0), largest)


@pytest.mark.parametrize("num_rows", [1, 40])
def test_scales_apart_stand_for_the_product(num_rows: int) -> None:
    multiply = product(64, 32)
    x = made(1, num_rows, 32)
    whole = multiply(x)
    apart = multiply.scales_apart(x)
    assert isinstance(apart, ScaledSums)
    assert (1, num_rows, 64) == whole.shape
    multiples = apart.values.float() * apart.row_scales * apart.column_scales.t()
    assert distance(multiples, whole[0]) < 2**-7
    assert torch.equal(whole, multiply(quantise_rows(x[0])))


def test_scales_stay_where_16_bits_do_not_hold_the_sums_and_where_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = made(1, 3, 32)
    assert isinstance(product(64, 32, torch.float16).scales_apart(x.half()), Tensor)
    monkeypatch.setattr(row_product, "_MOST_APART", 3 * 64)
    assert isinstance(product(64, 32).scales_apart(x), ScaledSums)
    assert isinstance(product(80, 32).scales_apart(x), Tensor)


def test_a_norm_adds_multiples_and_rounds_to_8_bits() -> None:
    form = NormForm(made(64, seed=2), 1e-6, adds_one=False)
    apart = product(64, 32).scales_apart(made(1, 3, 32))
    assert isinstance(apart, ScaledSums)
    multiples = (apart.values.float() * apart.row_scales * apart.column_scales.t()).bfloat16()[None]
    before = made(1, 3, 64, seed=3)
    sums = [before.clone() for _ in range(4)]
    expected = add_rms_norm(sums[0], multiples, form)
    assert distance(add_rms_norm(sums[1], apart, form), expected) <= ROUNDING
    rows = add_rms_norm_rows(sums[2], apart, form)
    assert distance(widened(rows), expected[0]) < STEP
    add_scaled(sums[3], apart)
    assert all(distance(summed, before + multiples) <= ROUNDING for summed in sums)


def in_eight_bits(make: Callable[[int], Any], *, keeps_scales: bool) -> Any:
    """A model in bfloat16 with products of 8-bit floats, hidden from the layers or not."""

    def make_product(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
        values, scales = quantise_rows(layer.weight.detach())
        multiply = eight_bit_float_product(values, scales, None, torch.bfloat16)
        return (lambda x: multiply(x)) if keeps_scales else multiply

    model = make(HEAD_DIM).to(DEVICE, torch.bfloat16).eval()
    replace_linears(model, quantisable(model), make_product, DEVICE, merges=True)
    return model


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen3])
@torch.inference_mode()
def test_a_model_gives_the_logits_of_its_products(
    make: Callable[[int], Any], fused: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if IS_INTERPRETED:
        monkeypatch.setattr(layer_checks, "_TOLERANCE_OF_ROWS", STEP)
    plain = fused(in_eight_bits(make, keeps_scales=True))
    ours = fused(in_eight_bits(make, keeps_scales=False))
    layers = [vars(layer).get("forward") for layer in ours.model.layers]
    assert all(isinstance(layer, PreNormLayer) for layer in layers)
    attentions = [vars(layer.self_attn).get("forward") for layer in ours.model.layers]
    assert all(isinstance(attention, FusedAttention) for attention in attentions)
    caches = BlockCache(SHAPE.num_slots), BlockCache(SHAPE.num_slots)
    for round_ in ROUNDS:
        expected = paged_logits(plain, round_, caches[0])
        # Where a number's last bit differs, one in 30 is rounded to the other side in 8 bits.
        assert distance(paged_logits(ours, round_, caches[1]), expected) < 0.2
