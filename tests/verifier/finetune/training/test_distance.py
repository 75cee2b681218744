"""Distances and their gradients are those of the definitions."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.finetune.training.distance import (
    distances,
    logit_gradient_,
)

NUM_ROWS, VOCAB_SIZE = 5, 300


def logits(seed: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(NUM_ROWS, VOCAB_SIZE, generator=torch.Generator().manual_seed(seed))


def weights(seed: int) -> Tensor:
    return torch.rand(NUM_ROWS, generator=torch.Generator().manual_seed(seed))


def test_the_gradient_is_that_of_the_loss() -> None:
    target, draft = logits(1).double(), logits(2).double().requires_grad_()
    kl_weights, variation_weights = weights(3), weights(4)
    log_p, log_q = target.log_softmax(-1), draft.log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    variation = 1 - torch.minimum(log_p.exp(), log_q.exp()).sum(-1)
    (kl_weights * kl + variation_weights * variation).sum().backward()
    found = distances(target.float(), draft.detach().float())
    ours = logit_gradient_(
        target.float(), draft.detach().float(), found, kl_weights, variation_weights
    )
    assert draft.grad is not None
    torch.testing.assert_close(ours, draft.grad.float(), atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(found.kl, kl.detach().float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.acceptance, 1 - variation.detach().float())


def test_equal_rows_are_no_distance_apart() -> None:
    found = distances(logits(1), logits(1))
    torch.testing.assert_close(found.acceptance, torch.ones(NUM_ROWS))
    torch.testing.assert_close(found.kl, torch.zeros(NUM_ROWS), atol=1e-5, rtol=0)
    assert torch.equal(found.target_choice, found.draft_choice)
