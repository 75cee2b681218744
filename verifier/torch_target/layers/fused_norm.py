"""A norm of a stock model as one kernel, alone or with the sum before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from verifier.torch_target.kernels.norm_form import NormForm
from verifier.torch_target.kernels.norms import (
    add_rms_norm,
    add_rms_norm_rows,
    rms_norm,
    rms_norm_rows,
)
from verifier.torch_target.kernels.row_quantisation import EightBitRows, ScaledSums
from verifier.torch_target.layers.layer_checks import is_close, sample_input


class FusedNorm:
    """The forward pass of a norm module."""

    def __init__(self, form: NormForm) -> None:
        self.form = form

    def __call__(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.form)

    def rows(self, x: Tensor) -> EightBitRows:
        """The norm in 8-bit floats."""
        return rms_norm_rows(x, self.form)

    def after_adding(self, sums: Tensor, x: Tensor | ScaledSums) -> Tensor:
        """The norm of sums + x, all [1, n, size] and contiguous; `sums` holds the sum then."""
        return add_rms_norm(sums, x, self.form)

    def rows_after_adding(self, sums: Tensor, x: Tensor | ScaledSums) -> EightBitRows:
        """The same in 8-bit floats."""
        return add_rms_norm_rows(sums, x, self.form)


def fused_norm_of(module: Any) -> FusedNorm | None:
    """What has taken a norm module over, if it has."""
    forward = vars(module).get("forward") if module is not None else None
    return forward if isinstance(forward, FusedNorm) else None


def fuse_norm(module: Any) -> bool:
    """Take over any module named like a root-mean-square norm, in either of its two forms."""
    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    is_norm = type(module).__name__.endswith("RMSNorm")
    if not is_norm or not isinstance(epsilon, float) or not isinstance(weight, Tensor):
        return False
    sample = sample_input(weight, weight.shape[0])
    with torch.inference_mode():
        expected = module(sample)
        for adds_one in (False, True):
            fused = FusedNorm(NormForm(weight, epsilon, adds_one))
            if is_close(fused(sample), expected):
                module.forward = fused
                return True
    return False
