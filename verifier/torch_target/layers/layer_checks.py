"""Whether a replacement of a layer gives the numbers of the layer itself."""

from __future__ import annotations

import torch
from torch import Tensor

# Of the norm: some roundings to bfloat16. A layer of another form is off by a tenth and more.
_TOLERANCE = 2**-7
# Where a product takes rows in 8-bit floats, a last bit decides how far a number is rounded.
_TOLERANCE_OF_ROWS = 2**-5


def sample_input(like: Tensor, size: int) -> Tensor:
    """A made-up input [1, 7, size] for layers whose weights are like `like`."""
    generator = torch.Generator(like.device).manual_seed(0)
    shape = (1, 7, size)
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)


def is_close(ours: Tensor, theirs: Tensor, *, is_of_rows: bool = False) -> bool:
    """Equal up to the roundings of a 16-bit type, over all numbers together.

    `is_of_rows`: behind a product that rounds its rows to 8 bits.
    """
    tolerance = _TOLERANCE_OF_ROWS if is_of_rows else _TOLERANCE
    distance = torch.linalg.vector_norm(ours.float() - theirs.float())
    return bool(distance <= tolerance * torch.linalg.vector_norm(theirs.float()))
