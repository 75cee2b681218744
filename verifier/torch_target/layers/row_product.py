"""A product in 8-bit floats: of rows that are rounded already, and without its scales, if need be.

The kernel that reads what it gives may apply the scales on the way, and the one that makes what it
takes may round it: one less each. Without scales the product is cuBLAS's: the four of a layer of
Llama-3.1-8B take 94 µs on an H100 for 8 rows and 117 for 256, with scales of rows 118 and 129.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from verifier.torch_target.kernels.row_quantisation import (
    EightBitRows,
    ScaledSums,
    quantise_rows,
)
from verifier.torch_target.layers.weight_only import WeightOnlyLinear

# Numbers up to which a kernel may as well read a scale for each of a row's: beyond, that takes
# longer than the product gains.
_MOST_APART = 3 << 19


class RowProduct:
    """With weights [out, in] in float8_e4m3fn, a scale for each output; all on one GPU."""

    def __init__(
        self, values: Tensor, scales: Tensor, bias: Tensor | None, dtype: torch.dtype
    ) -> None:
        """`scales` are [out, 1] float32, `dtype` is the output's."""
        self._values = values
        self._scales = scales
        self._bias = bias
        self._dtype = dtype
        self._one = torch.ones((), device=values.device)

    def __call__(self, x: Tensor | EightBitRows) -> Tensor:
        """The outputs [..., out] for inputs [..., in]; [1, n, out] for n rows."""
        rows = self._rows(x)
        output = self._multiply(rows.values, rows.scales, self._scales.t())
        shape = (1, len(output)) if isinstance(x, EightBitRows) else x.shape[:-1]
        return output.view(*shape, -1)

    def scales_apart(self, x: Tensor | EightBitRows) -> Tensor | ScaledSums:
        """The outputs, their scales apart where they can be and that pays.

        Not where a bias is added behind them, nor in float16, which does not hold such sums.
        """
        rows = self._rows(x)
        if self._bias is not None or self._dtype is not torch.bfloat16:
            return self(rows)
        if len(rows.values) * len(self._values) > _MOST_APART:
            return self(rows)
        return ScaledSums(
            self._multiply(rows.values, self._one, self._one), rows.scales, self._scales
        )

    def _rows(self, x: Tensor | EightBitRows) -> EightBitRows:
        if isinstance(x, EightBitRows):
            return x
        return quantise_rows(x.reshape(-1, x.shape[-1]))

    def _multiply(self, rows: Tensor, row_scales: Tensor, column_scales: Tensor) -> Tensor:
        return torch._scaled_mm(
            rows,
            self._values.t(),
            row_scales,
            column_scales,
            self._bias,
            out_dtype=self._dtype,
            use_fast_accum=True,
        )


def scales_apart(product: Callable[..., Tensor]) -> Callable[..., Tensor | ScaledSums]:
    """The product, giving scales apart where it can."""
    return product.scales_apart if isinstance(product, RowProduct) else product


def row_product_of(module: nn.Module) -> RowProduct | None:
    """The product of a layer, if it is one of these."""
    product = module.product if isinstance(module, WeightOnlyLinear) else None
    return product if isinstance(product, RowProduct) else None
