"""Whether a replacement of a layer gives the numbers of the layer itself."""

from __future__ import annotations

import torch
from torch import Tensor

# Two roundings to bfloat16, of numbers around 1.
_TOLERANCE = 2**-6


def sample_input(like: Tensor, size: int) -> Tensor:
    """A made-up input [1, 7, size] for layers whose weights are like `like`."""
    generator = torch.Generator(like.device).manual_seed(0)
    shape = (1, 7, size)
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)


def is_close(ours: Tensor, theirs: Tensor) -> bool:
    """Equal up to the roundings of a 16-bit type."""
    return torch.allclose(ours.float(), theirs.float(), rtol=_TOLERANCE, atol=_TOLERANCE)
