"""A stock transformers model made fast for short rounds on a GPU, its weights untouched.

Projections of one input become one product; norms, rotary embedding and gated activation one kernel
each.  A norm or an activation is only replaced after the kernel has given the same numbers as
the module itself, so an architecture that does something else keeps its own code.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from verifier.fused_kernels import ACTIVATIONS, gated, rms_norm, rotary
from verifier.merged_projections import MergedLinear, can_merge

logger = logging.getLogger(__name__)

# Two roundings to bfloat16, of numbers around 1.
_TOLERANCE = 2**-6
_ROTARY_NAME = "apply_rotary_pos_emb"


def fuse_layers(model: nn.Module) -> None:
    """Replace what the kernels do as well; a log line names what stays slower, and why."""
    counts = {"projections": 0, "norms": 0, "activations": 0}
    for module in model.modules():
        counts["projections"] += _merge_attention(module)
        counts["norms"] += _fuse_norm(module)
        counts["activations"] += _fuse_gate(module)
    counts["rotary embeddings"] = _fuse_rotary(model)
    slow = [what for what, count in counts.items() if not count]
    if slow:
        name = type(model).__name__
        logger.warning("%s keeps its own %s, which are slower", name, " and ".join(slow))


def _merge_attention(module: nn.Module) -> bool:
    projections = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj")]
    if not can_merge(projections):
        return False
    merged = MergedLinear([p for p in projections if isinstance(p, nn.Linear)])
    for number, projection in enumerate(projections):
        _replace_forward(projection, partial(merged.part, number))
    return True


def _fuse_norm(module: nn.Module) -> bool:
    """Any module named like a root-mean-square norm, in either of its two forms."""
    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    is_norm = type(module).__name__.endswith("RMSNorm")
    if not is_norm or not isinstance(epsilon, float) or not isinstance(weight, Tensor):
        return False
    sample = _sample(weight, weight.shape[0])
    with torch.inference_mode():
        expected = module(sample)
        for adds_one in (False, True):
            if _equal(rms_norm(sample, weight, epsilon, adds_one=adds_one), expected):
                fused = partial(_norm, weight=weight, epsilon=epsilon, adds_one=adds_one)
                _replace_forward(module, fused)
                return True
    return False


def _norm(x: Tensor, *, weight: Tensor, epsilon: float, adds_one: bool) -> Tensor:
    return rms_norm(x, weight, epsilon, adds_one=adds_one)


def _fuse_gate(module: nn.Module) -> bool:
    """A multilayer perceptron of gate, up and down projection."""
    gate, up, down = (getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
    if not can_merge([gate, up]) or not isinstance(down, nn.Linear):
        return False
    assert isinstance(gate, nn.Linear)
    assert isinstance(up, nn.Linear)
    sample = _sample(gate.weight, gate.in_features)
    with torch.inference_mode():
        expected = module(sample)
        both = torch.cat([gate(sample), up(sample)], dim=-1)
        for activation in ACTIVATIONS:
            if _equal(down(gated(both, activation)), expected):
                merged = MergedLinear([gate, up])
                _replace_forward(
                    module, partial(_perceptron, merged=merged, down=down, activation=activation)
                )
                return True
    return False


def _perceptron(x: Tensor, *, merged: MergedLinear, down: nn.Linear, activation: str) -> Tensor:
    output: Tensor = down(gated(merged.whole(x), activation))
    return output


def _fuse_rotary(model: nn.Module) -> bool:
    """Models look the function up in their own source file, once for all of their layers."""
    source: Any = sys.modules[type(model).__module__]
    stock = getattr(source, _ROTARY_NAME, None)
    if stock is None or hasattr(stock, "stock"):
        return stock is not None
    query, key = (torch.randn(1, heads, 5, 64, device="cuda") for heads in (4, 2))
    query, key = query.bfloat16(), key.bfloat16()
    angles = torch.randn(1, 5, 32, device="cuda").repeat(1, 1, 2)
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    expected = stock(query, key, cos, sin)
    fused = rotary(query, key, cos, sin)
    if not all(_equal(ours, theirs) for ours, theirs in zip(fused, expected, strict=True)):
        return False

    def apply_rotary_pos_emb(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, **others: Any
    ) -> tuple[Tensor, Tensor]:
        """Ours for what it was made for, else the model's own."""
        is_ours = q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and q.shape[0] == 1
        if is_ours and not others and cos.shape[-1] == q.shape[-1]:
            return rotary(q, k, cos, sin)
        rotated: tuple[Tensor, Tensor] = stock(q, k, cos, sin, **others)
        return rotated

    apply_rotary_pos_emb.stock = stock  # type: ignore[attr-defined]
    setattr(source, _ROTARY_NAME, apply_rotary_pos_emb)
    return True


def _replace_forward(module: Any, forward: Any) -> None:
    module.forward = forward


def _sample(like: Tensor, size: int) -> Tensor:
    generator = torch.Generator(like.device).manual_seed(0)
    shape = (1, 7, size)
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours.float(), theirs.float(), rtol=_TOLERANCE, atol=_TOLERANCE)
