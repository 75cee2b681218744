"""A stock transformers model on a GPU whose rows do not depend on the batch.

Every matrix product is one whose order of sums is fixed, every norm our kernel, which takes a row
at a time; the attention has to cut keys at fixed places (`PagedLayout`). What cannot be promised
is refused.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from shared.errors import ModelError
from verifier.torch_target.kernels.linear import invariant_linear
from verifier.torch_target.layers.fused_layers import fuse_layers, has_our_forward

# Modules with weights that treat every row alone whatever the batch is.
_ROW_WISE = (nn.Embedding,)


def make_invariant(model: nn.Module) -> None:
    """Replace every product and norm.

    Raises:
        ModelError: the model has layers with weights that are neither.
    """
    fuse_layers(model, invariant_linear)
    for name, module in model.named_modules():
        if has_our_forward(module) or isinstance(module, _ROW_WISE):
            continue
        if type(module) is nn.Linear:
            own: Any = module
            own.forward = partial(invariant_linear, weight=own.weight, bias=own.bias)
        elif next(module.parameters(recurse=False), None) is not None:
            raise ModelError(
                f"target.batch_invariant is not possible for {type(model).__name__}: "
                f"{name} is a {type(module).__name__}"
            )
