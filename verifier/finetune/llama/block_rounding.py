"""What weights become in a file of blocks of 32, while they are trained: straight through.

The forward pass sees the rounded weight and the gradient goes to the exact one (Bengio et al.
2013, arXiv 1308.3432). It must round as the file's writer does: `gguf_draft` checks that.

The reference is here; on a GPU `rounding_kernel` does 4 bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from verifier.finetune.recipe.draft_shape import BLOCK_WEIGHTS

_TINY = 1e-12


def rounded(weight: Tensor, kind: str) -> Tensor:
    """The weight [..., a multiple of 32] as a file of this kind holds it; same dtype, no gradient.

    Q4_0: the number of the largest size becomes -8 steps, all others whole steps from -8 to 7.
    Q8_0: whole steps, of which the largest size is 127. Steps are kept in float16.
    """
    weight = weight.detach()
    if weight.is_cuda and kind == "Q4_0" and weight.dtype == torch.float32:
        from verifier.finetune.llama.rounding_kernel import rounded_to_4_bits_by_kernel

        return rounded_to_4_bits_by_kernel(weight)
    return rounded_by_torch(weight, kind)


def rounded_by_torch(weight: Tensor, kind: str) -> Tensor:
    """The reference."""
    blocks = weight.detach().float().reshape(*weight.shape[:-1], -1, BLOCK_WEIGHTS)
    if kind == "Q4_0":
        largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
        step = _kept(largest / -8)
        numbers = (blocks / step + 8.5).floor().clamp(0, 15) - 8
    elif kind == "Q8_0":
        step = _kept(blocks.abs().amax(-1, keepdim=True) / 127)
        numbers = (blocks / step).round().clamp(-127, 127)
    else:
        raise AssertionError(kind)
    exact: Tensor = numbers * step
    return exact.flatten(-2).to(weight.dtype)


def straight_through(weight: Tensor, kind: str | None) -> Tensor:
    """The rounded weight, whose gradient is that of the exact one; None: the exact one."""
    if kind is None:
        return weight
    found: Tensor = _StraightThrough.apply(weight, kind)  # type: ignore[no-untyped-call]
    return found


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, kind: str) -> Tensor:
        return rounded(weight, kind)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _kept(step: Tensor) -> Tensor:
    """As float16 keeps it, but never zero: a block of zeros stays one."""
    kept = step.half().float()
    return torch.where(kept == 0, torch.full_like(kept, _TINY), kept)
