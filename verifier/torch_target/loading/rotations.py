"""Rotations of positions that do not depend on how long the streams of a round are.

Dynamic and longrope rotations change with the longest sequence that a model reads, which in a round
is another stream's business, and keys that are cached already would be of the old kind. So they
are fixed once, for the longest stream that `target.context_tokens` allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

_FIXED = "fixed"  # a type that transformers does not know, and so leaves alone
_CHANGING = ("dynamic", "longrope")


def fix_rotations(model: nn.Module, context_tokens: int) -> None:
    """Give every stream the rotations of one of `context_tokens` tokens."""
    last = torch.tensor([[context_tokens - 1]])
    for module in model.modules():
        rope_type = getattr(module, "rope_type", None)
        if isinstance(rope_type, str) and rope_type in _CHANGING:
            _read(module, last)
            _set_type(module, _FIXED)
        elif isinstance(rope_type, Mapping):
            changing = [layer_type for layer_type, of in rope_type.items() if of in _CHANGING]
            for layer_type in changing:
                _read(module, last, layer_type)
            _set_type(module, {**rope_type, **dict.fromkeys(changing, _FIXED)})


def _read(rotary: Any, positions: torch.Tensor, *layer_type: str) -> None:
    """Let it choose its frequencies, as it does for a sequence that ends there."""
    like = next(rotary.buffers())
    rotary(like, positions.to(like.device), *layer_type)


def _set_type(rotary: Any, rope_type: object) -> None:
    rotary.rope_type = rope_type
