"""The kernel of one new token a slot mixes what PyTorch's attention does."""

from __future__ import annotations

import pytest
import torch

from tests.support.models.triton_kernels import DEVICE, import_triton
from verifier.finetune.texts.decode_attention import attend_by_torch

import_triton()

from verifier.finetune.texts.decode_kernel import decode_attention_kernel  # noqa: E402


@pytest.mark.parametrize("heads", [(3, 1), (4, 2), (2, 2)], ids=str)
def test_the_kernel_computes_what_torch_does(heads: tuple[int, int]) -> None:
    num_heads, kv_heads = heads
    generator = torch.Generator(DEVICE).manual_seed(1)
    query = torch.randn(3, num_heads, 16, generator=generator, device=DEVICE)
    keys, values = torch.randn(2, 3, kv_heads, 70, 16, generator=generator, device=DEVICE)
    positions = torch.tensor([0, 63, 69], device=DEVICE)
    expected = attend_by_torch(query, keys, values, positions)
    found = decode_attention_kernel(query, keys, values, positions)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
