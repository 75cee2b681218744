"""What learns: all weights, or thin matrices beside those that stay."""

from __future__ import annotations

import torch

from verifier.finetune.llama.llama_model import MATRICES, LlamaModel, LlamaShape
from verifier.finetune.training.trained_weights import (
    LowRankWeights,
    WholeWeights,
    trained_weights,
)

SHAPE = LlamaShape(
    hidden=32,
    layers=2,
    heads=2,
    kv_heads=1,
    ffn=64,
    head_size=16,
    vocab_size=40,
    rope_theta=1e4,
    norm_epsilon=1e-5,
)


def learned(model: LlamaModel) -> LowRankWeights:
    weights = LowRankWeights(model, 3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameters in weights.by_adam:
            for parameter in parameters:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return weights


def test_the_rank_says_what_learns() -> None:
    assert isinstance(trained_weights(LlamaModel(SHAPE, 0), 0), WholeWeights)
    assert isinstance(trained_weights(LlamaModel(SHAPE, 0), 2), LowRankWeights)


def test_an_output_of_its_own_learns_too() -> None:
    tied, untied = LlamaModel(SHAPE, 0), LlamaModel(SHAPE, 0, is_tied=False)
    counts = [len(WholeWeights(model).by_adam[0][1]) for model in (tied, untied)]
    assert counts[0] + 1 == counts[1]


def test_of_low_rank_the_model_begins_as_it_is_and_its_own_weights_stay() -> None:
    model = LlamaModel(SHAPE, 0)
    weights = LowRankWeights(model, 3)
    for name in MATRICES:
        assert torch.equal(model.get_parameter(name), weights.matrix(name))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_merging_puts_what_was_learned_into_the_model() -> None:
    model = LlamaModel(SHAPE, 0)
    before = model.get_parameter("query").clone()
    weights = learned(model)
    wanted = weights.matrix("query").detach().clone()
    weights.merge()
    assert torch.allclose(wanted, model.get_parameter("query"))
    assert torch.allclose(wanted, weights.matrix("query"))
    assert 3 == torch.linalg.matrix_rank((wanted - before)[0], rtol=1e-4)


def test_a_restart_goes_on_from_what_was_kept() -> None:
    kept = {name: part.clone() for name, part in learned(LlamaModel(SHAPE, 0)).state().items()}
    fresh = LowRankWeights(LlamaModel(SHAPE, 0), 3)
    fresh.restore(kept)
    wanted = learned(LlamaModel(SHAPE, 0)).matrix("down")
    assert torch.equal(wanted, fresh.matrix("down"))
