"""Models whose layers are fused; imports Triton on demand only, so that a test can skip without."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from verifier.torch_target.forward.attention import use_round_attention


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Fuses a model's layers; what its source file calls is put back at the end."""
    from verifier.torch_target.layers.fused_layers import fuse_layers

    def fuse(model: Any) -> Any:
        name = "apply_rotary_pos_emb"
        source = sys.modules[type(model).__module__]
        if hasattr(source, name):
            monkeypatch.setattr(source, name, getattr(source, name))
        use_round_attention(model)
        fuse_layers(model)
        return model

    return fuse
