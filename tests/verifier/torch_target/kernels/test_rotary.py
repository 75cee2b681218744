"""The rotation of a kernel of its own is that of the stock model.

Runs on a GPU; without one through Triton's interpreter, where Triton is installed.
"""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama.modeling_llama import rotate_half

from tests.support.models.triton_kernels import DEVICE, IS_INTERPRETED, import_triton

import_triton()

from verifier.torch_target.kernels.layers import rotary  # noqa: E402


@pytest.mark.parametrize(("num_heads", "num_kv_heads", "size"), [(4, 2, 16), (5, 1, 24)])
def test_heads_are_turned_as_the_stock_model_turns_them(
    num_heads: int, num_kv_heads: int, size: int
) -> None:
    generator = torch.Generator(DEVICE).manual_seed(size)
    made = {"generator": generator, "device": DEVICE, "dtype": torch.float16}
    # As a projection leaves them: the heads of a token side by side.
    query, key = (
        torch.randn(1, 7, heads, size, **made).transpose(1, 2)
        for heads in (num_heads, num_kv_heads)
    )
    angles = torch.randn(1, 7, size // 2, **made).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    for ours, heads in zip(rotary(query, key, cos, sin), (query, key), strict=True):
        products = heads * cos[:, None], rotate_half(heads) * sin[:, None]
        # A GPU's compiler leaves the rounding of a product out where it adds with it.
        last_bit = 0.0 if IS_INTERPRETED else torch.finfo(torch.float16).eps
        most = last_bit * (products[0].abs() + products[1].abs()).float()
        assert ((ours - (products[0] + products[1])).abs() <= most).all()
