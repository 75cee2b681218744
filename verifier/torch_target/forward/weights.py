"""Moving a model to its device and dtype, which only its weights are in."""

from __future__ import annotations

import torch
from torch import nn


def move_weights(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Put a model on the device, its weights in the dtype.

    Buffers keep their own: the frequencies of rotations are float32 whatever the weights are, as
    in 16 bits they would be wrong by whole turns after some hundred tokens.
    """
    own = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    model.to(device=device, dtype=dtype)
    for module, name, buffer in own:
        setattr(module, name, buffer.to(device))
