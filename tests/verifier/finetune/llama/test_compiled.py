"""Compiled layers compute what layers do, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from verifier.finetune.llama.compiled import compiled
from verifier.finetune.llama.llama_model import (
    Architecture,
    LlamaModel,
    LlamaShape,
    RunLayer,
    final_states,
    run_layer,
)

NUM_ROWS, NUM_TOKENS, VOCAB_SIZE = 3, 32, 128


def states_and_gradients(architecture: Architecture, run: RunLayer) -> list[Tensor]:
    shape = LlamaShape(
        *(64, 2, 2, 1, 96, 32, VOCAB_SIZE),
        rope_theta=10_000.0,
        norm_epsilon=1e-5,
        architecture=architecture,
    )
    model = LlamaModel(shape, seed=1)
    ids = torch.randint(VOCAB_SIZE, (NUM_ROWS, NUM_TOKENS), generator=torch.manual_seed(1))
    rotation = model.rotation(NUM_TOKENS, torch.float32)
    states = final_states(shape, model.weights(torch.float32), rotation, ids, run=run)
    states.square().mean().backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [states.detach(), *gradients]


@pytest.mark.slow  # a C++ compiler takes half a minute
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_compiled_layers_compute_the_same(
    architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool that stays
    expected = states_and_gradients(architecture, run_layer)
    found = states_and_gradients(architecture, compiled(run_layer))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)
