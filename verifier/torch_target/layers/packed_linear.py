"""Linear layers with weights packed for oneDNN: what makes short rounds fast on a CPU.

A round has few tokens, and there MKL's matrix product, which torch takes for float32, wastes the
machine: 576 × 1536 weights and 8 tokens took 0.167 ms, packed 0.057; 49,152 × 576 took 12.5 ms,
packed 2.7 (2 cores of an EPYC 9005, torch 2.13, 2026-11). The numbers are those of the same
weights in the same precision. This module must never change what a layer computes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A `nn.Linear` whose weight only oneDNN can read."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.out_features = linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        bias: Tensor | None = linear.bias  # annotated as never None
        self._bias = None if bias is None else bias.detach()

    def forward(self, rows: Tensor) -> Tensor:
        """As `nn.Linear`: rows @ weight.T + bias."""
        if not rows.numel():  # oneDNN refuses a product of no rows
            return rows.new_empty(*rows.shape[:-1], self.out_features)
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._weight, self._bias, "none", [], ""
        )
        return packed


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN and its packed product for the dtype."""
    return (
        dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def pack_linears(model: nn.Module) -> None:
    """Replace every `nn.Linear` of a model; weights that nothing else shares are freed."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))
