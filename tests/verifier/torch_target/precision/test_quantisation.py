"""Weights of fewer bits give nearly the same logits, survive a move, and say what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.errors import ModelError
from tests.support.models.tiny_models import tiny_llama, tiny_qwen3
from verifier.target.precision import Quantisation
from verifier.torch_target.layers.weight_only import MergedPart, WeightOnlyLinear, merged_of
from verifier.torch_target.precision.quantisation import (
    check_can_quantise,
    quantisable,
    quantisable_head,
    quantise,
    replace_linears,
)

CPU = torch.device("cpu")
IDS = torch.arange(20)[None]


def test_without_quantisation_nothing_changes() -> None:
    model = tiny_llama()
    check_can_quantise("none", CPU)
    quantise(model, "none", CPU)
    assert [] == [module for module in model.modules() if isinstance(module, WeightOnlyLinear)]


def test_all_linear_layers_but_that_of_the_logits_are_quantised() -> None:
    names = quantisable(tiny_llama())
    assert 3 * 7 == len(names)
    assert "lm_head" not in names


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_missing_library_is_one_sentence(
    kind: Quantisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ModelError) as raised:
        check_can_quantise(kind, CPU)
    assert (
        f"target.quantisation is {kind}, which needs torchao (pip install 'goodspeed[quantised]')"
    ) == str(raised.value)


@pytest.mark.parametrize(("kind", "tolerance"), [("int8", 0.05), ("fp8", 0.15)])
def test_quantised_logits_are_near_those_of_the_weights(
    kind: Quantisation, tolerance: float
) -> None:
    pytest.importorskip("torchao")
    model = tiny_qwen3()
    with torch.inference_mode():
        expected = model(IDS).logits
        quantise(model, kind, CPU)
        # What `TorchTarget` does to a model that is there already.
        model.to(device=CPU, dtype=torch.float32)
        logits = model(IDS).logits
    assert not torch.equal(expected, logits)
    assert (expected - logits).norm() < tolerance * expected.norm()
    assert [model.lm_head] == [module for module in model.modules() if type(module) is nn.Linear]


@pytest.mark.parametrize(("kind", "step"), [("int8", 0.5 / 127), ("fp8", 2**-4)])
def test_a_weight_is_off_by_half_a_step_of_its_row(kind: Quantisation, step: float) -> None:
    pytest.importorskip("torchao")
    model = tiny_llama()
    expected = model.model.layers[0].mlp.down_proj.weight.detach().clone()
    quantise(model, kind, CPU)
    layer = model.model.layers[0].mlp.down_proj
    with torch.inference_mode():
        weights = layer(torch.eye(expected.shape[1])).t()
    largest = expected.abs().amax(dim=1, keepdim=True)
    assert ((weights - expected).abs() <= 1.01 * step * largest).all()
    assert layer.out_features == expected.shape[0]


def test_the_head_is_quantised_only_where_its_weight_is_its_own() -> None:
    model = tiny_llama()
    assert {"lm_head": model.lm_head} == quantisable_head(model)
    model.lm_head.weight = model.model.embed_tokens.weight
    assert {} == quantisable_head(model)


def test_a_model_without_linear_layers_is_refused() -> None:
    pytest.importorskip("torchao")

    class Recurrent(nn.Module):
        def get_output_embeddings(self) -> None:
            return None

    with pytest.raises(ModelError, match="but Recurrent has no linear layers"):
        quantise(Recurrent(), "int8", CPU)


def test_int4_on_a_cpu_is_one_sentence() -> None:
    with pytest.raises(ModelError) as raised:
        check_can_quantise("int4", CPU)
    assert "target.quantisation = int4 needs a GPU; int8 works on a CPU" == str(raised.value)


@pytest.mark.parametrize("make_model", [tiny_llama, tiny_qwen3])
def test_projections_of_one_input_become_one_product(make_model: Callable[[], Any]) -> None:
    """Made of whole weights here, so that the logits must be the same."""
    products: list[tuple[int, int]] = []

    def make(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
        weight, bias = linear.weight.detach(), linear.bias
        products.append((linear.in_features, weight.shape[0]))
        assert weight.shape[0] == linear.out_features
        return lambda x: functional.linear(x, weight, bias)

    model = make_model()
    attention = model.model.layers[0].self_attn
    sizes = [p.out_features for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
    num_inputs = attention.q_proj.in_features
    with torch.inference_mode():
        expected = model(IDS).logits
        replace_linears(model, quantisable(model), make, CPU, merges=True)
        torch.testing.assert_close(model(IDS).logits, expected)
    assert 4 * len(model.model.layers) == len(products)
    assert (num_inputs, sum(sizes)) in products
    attention = model.model.layers[0].self_attn
    merged = merged_of([attention.q_proj, attention.k_proj, attention.v_proj])
    assert merged is not None
    assert sizes == merged.sizes


def test_parts_of_different_products_share_none() -> None:
    model = tiny_llama()
    linears = quantisable(model)
    replace_linears(model, linears, lambda linear: linear.forward, CPU, merges=True)
    first, second = (layer.mlp for layer in model.model.layers[:2])
    assert isinstance(first.gate_proj, MergedPart)
    assert merged_of([first.gate_proj, first.up_proj]) is first.gate_proj.merged
    assert merged_of([first.gate_proj, second.up_proj]) is None
    assert merged_of([first.gate_proj]) is None
    assert merged_of([first.down_proj, first.up_proj]) is None


def test_a_layer_of_odd_sizes_is_named() -> None:
    def refuse(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
        raise NotImplementedError("groups do not fit")

    model = tiny_llama()
    with pytest.raises(
        NotImplementedError, match=r"^layer model\.layers\.0\..* groups do not fit$"
    ):
        replace_linears(model, quantisable(model), refuse, CPU, merges=False)
