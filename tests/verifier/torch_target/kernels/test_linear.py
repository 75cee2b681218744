"""The batch-invariant product equals the plain one; on a GPU no row depends on the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.models.triton_kernels import DEVICE, IS_INTERPRETED, import_triton

import_triton()

from verifier.torch_target.kernels import linear  # noqa: E402
from verifier.torch_target.kernels.linear import invariant_linear  # noqa: E402

DTYPES = [torch.float16, torch.float32] + ([] if IS_INTERPRETED else [torch.bfloat16])
SHAPES = [(1, 300, 256), (17, 513, 200), (130, 256, 384)]  # rows, outputs, inputs
if not IS_INTERPRETED:
    SHAPES += [(64, 4096, 4096), (600, 1536, 576)]


@pytest.fixture(autouse=True)
def few_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few that programs take several tiles and share them."""
    if IS_INTERPRETED:
        monkeypatch.setattr(linear, "_num_cores", lambda device: 3)


def case(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    num_rows, num_outputs, num_inputs = shape
    generator = torch.Generator(DEVICE).manual_seed(num_rows)
    made = {"generator": generator, "device": DEVICE, "dtype": dtype}
    return (
        torch.randn(num_rows, num_inputs, **made),
        torch.randn(num_outputs, num_inputs, **made) / num_inputs**0.5,
        torch.randn(num_outputs, **made),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("has_bias", [False, True])
def test_it_is_the_product(shape: tuple[int, int, int], dtype: torch.dtype, has_bias: bool) -> None:
    x, weight, bias = case(shape, dtype)
    expected = x.double() @ weight.double().t() + (bias.double() if has_bias else 0)
    for _ in range(2):  # the second time on what the first has left behind
        output = invariant_linear(x[None], weight, bias if has_bias else None)[0].double()
        error = (output - expected).norm() / expected.norm()
        assert error < {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 6e-3}[dtype]


@pytest.mark.skipif(IS_INTERPRETED, reason="numpy multiplies in another order for other shapes")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_do_not_depend_on_each_other(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    x, weight, bias = case(shape, dtype)
    whole = invariant_linear(x, weight, bias)
    for start, end in ((0, 1), (0, 20), (len(x) // 3, len(x))):
        assert torch.equal(whole[start:end], invariant_linear(x[start:end], weight, bias))
