"""Parts of a layer compiled by torch, for GPUs: their element-wise work in few kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

# Of one function: a width of batches each, of each time that texts are written anew.
_MOST_SHAPES = 64

Part = TypeVar("Part", bound=Callable[..., Any])


def compiled(part: Part) -> Part:
    """The same for tensors of fixed sizes; each new size takes seconds once.

    What it computes differs by the rounding of numbers that are no longer kept in between.
    """
    torch._dynamo.config.recompile_limit = _MOST_SHAPES
    return cast(Part, torch.compile(part, fullgraph=True, dynamic=False))
