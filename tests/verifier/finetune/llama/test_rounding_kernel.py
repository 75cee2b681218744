"""The kernel rounds as the reference does, to the last bit."""

from __future__ import annotations

import pytest
import torch

from tests.support.models.triton_kernels import DEVICE, import_triton
from verifier.finetune.llama.block_rounding import rounded_by_torch

import_triton()

from verifier.finetune.llama.rounding_kernel import rounded_to_4_bits_by_kernel  # noqa: E402


@pytest.mark.parametrize("size", [(3, 32), (70, 64), (2, 5, 96)], ids=str)
def test_it_rounds_as_the_reference_does(size: tuple[int, ...]) -> None:
    generator = torch.Generator(DEVICE).manual_seed(7)
    weight = 0.02 * torch.randn(*size, generator=generator, device=DEVICE)
    assert torch.equal(rounded_by_torch(weight, "Q4_0"), rounded_to_4_bits_by_kernel(weight))


def test_zeros_ties_and_the_smallest_numbers_are_rounded_alike() -> None:
    weight = torch.zeros(4, 32, device=DEVICE)
    weight[1, 3], weight[1, 9] = 0.5, -0.5  # the first of two as large says the sign of a step
    weight[2, 9], weight[2, 3] = 0.5, -0.5
    weight[3] = 1e-9  # a step that float16 does not hold
    assert torch.equal(rounded_by_torch(weight, "Q4_0"), rounded_to_4_bits_by_kernel(weight))
