"""The kernels compute the reference's distances and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.models.triton_kernels import DEVICE, import_triton
from verifier.finetune.training.distance import distances_by_torch, logit_gradient_by_torch

import_triton()

from verifier.finetune.training.distance_kernels import (  # noqa: E402
    distances_by_kernel,
    logit_gradient_by_kernel_,
)

NUM_ROWS, VOCAB_SIZE = 5, 4500  # more than two blocks, the last one not full


def logits(seed: int, scale: float) -> Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return scale * torch.randn(NUM_ROWS, VOCAB_SIZE, generator=generator, device=DEVICE)


def weights(seed: int) -> Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.rand(NUM_ROWS, generator=generator, device=DEVICE)


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_kernels_compute_what_the_reference_does(scale: float) -> None:
    target, draft = logits(5, scale), logits(6, scale)
    expected, found = distances_by_torch(target, draft), distances_by_kernel(target, draft)
    for name in ("target_normaliser", "draft_normaliser", "acceptance", "kl", "signed_mass"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), atol=2e-5, rtol=1e-4, msg=name
        )
    assert torch.equal(found.target_choice, expected.target_choice)
    assert torch.equal(found.draft_choice, expected.draft_choice)
    wanted = logit_gradient_by_torch(target, draft, expected, weights(7), weights(8))
    ours = logit_gradient_by_kernel_(target, draft, found, weights(7), weights(8))
    torch.testing.assert_close(ours, wanted, atol=1e-6, rtol=1e-3)


def test_the_gradient_of_half_precision_lies_where_the_logits_were() -> None:
    target, draft = logits(5, 3.0).half(), logits(6, 3.0).half()
    expected = distances_by_torch(target, draft)
    wanted = logit_gradient_by_torch(target, draft, expected, weights(7), weights(8))
    found = distances_by_kernel(target, draft)
    ours = logit_gradient_by_kernel_(target, draft, found, weights(7), weights(8))
    assert (torch.bfloat16, draft.data_ptr()) == (ours.dtype, ours.data_ptr())
    torch.testing.assert_close(ours.float(), wanted, atol=1e-5, rtol=2e-2)
