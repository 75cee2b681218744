"""Muon's directions are orthogonal, whatever the gradient's scale."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from verifier.finetune.training.muon import Muon, orthogonal


@pytest.mark.parametrize("size", [(2, 32, 48), (2, 48, 32)], ids=str)
def test_singular_values_are_near_one(size: tuple[int, ...]) -> None:
    matrices = 1e-3 * torch.randn(*size, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert (0.3 < values).all()
    assert (values < 1.4).all()


def test_steps_go_down_a_slope() -> None:
    weight = nn.Parameter(torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(1)))
    muon = Muon([weight])
    muon.rate.fill_(0.2)
    losses = []
    for _ in range(20):
        weight.grad = None
        loss = (weight**2).sum()
        loss.backward()
        losses.append(loss.item())
        muon.step()
    assert losses[-1] < 0.7 * losses[0]
