"""A stock transformers model made fast for short rounds on a GPU, its weights untouched.

Projections of one input become one product; norms, rotary embedding and gated activation one kernel
each, those of heads one together; residual sums become part of a product. A module is only
replaced after the kernel has given the same numbers as itself, so an architecture that does
something else keeps its own code.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from verifier.torch_target.kernels.layers import ACTIVATIONS, gated, rotary
from verifier.torch_target.layers.fused_attention import fuse_attention
from verifier.torch_target.layers.fused_norm import fuse_norm
from verifier.torch_target.layers.fused_residuals import (
    GatedPerceptron,
    fuse_residuals,
    link_layers,
)
from verifier.torch_target.layers.layer_checks import is_close, sample_input
from verifier.torch_target.layers.merged_projections import (
    MergedLinear,
    MergedProduct,
    Product,
    can_merge,
)
from verifier.torch_target.layers.row_product import row_product_of
from verifier.torch_target.layers.weight_only import WeightOnlyLinear, merged_of

logger = logging.getLogger(__name__)

_ROTARY_NAME = "apply_rotary_pos_emb"
_DTYPES = (torch.bfloat16, torch.float16)


def fuse_layers(model: nn.Module, product: Product = linear) -> list[str]:
    """Replace what the kernels do as well; the parts that stay slower are named, and logged.

    `product` is used for all products that are merged.
    """
    counts = {"projections": 0, "norms": 0, "activations": 0}
    perceptrons: dict[nn.Module, GatedPerceptron] = {}
    attentions: dict[nn.Module, MergedProduct] = {}
    for module in model.modules():
        merged = _merge_attention(module, product)
        if merged is not None:
            attentions[module] = merged
        counts["norms"] += fuse_norm(module)
        perceptron = _fused_perceptron(module, product)
        if perceptron is not None:
            _replace_forward(module, perceptron)
            perceptrons[module] = perceptron
    counts["projections"], counts["activations"] = len(attentions), len(perceptrons)
    counts["rotary embeddings"] = _fuse_rotary(model)
    _fuse_heads(model, attentions)
    if product is linear:
        counts["residual sums"] = sum(fuse_residuals(m, perceptrons) for m in model.modules())
        link_layers(model)
    slow = [what for what, count in counts.items() if not count]
    if slow:
        name = type(model).__name__
        logger.warning("%s keeps its own %s, which are slower", name, " and ".join(slow))
    return slow


def _merge_attention(module: nn.Module, product: Product) -> MergedProduct | None:
    projections = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj")]
    if not can_merge(projections):
        return merged_of(projections)  # merged when they were quantised
    merged = MergedLinear([p for p in projections if isinstance(p, nn.Linear)], product)
    for number, projection in enumerate(projections):
        _replace_forward(projection, partial(merged.part, number))
    return merged


def _fuse_heads(model: Any, attentions: Mapping[nn.Module, MergedProduct]) -> None:
    """What stays as it is still has fast norms and a fast rotary embedding, so none is named."""
    config = model.config.get_text_config()
    for module, merged in attentions.items():
        fuse_attention(module, merged, config)


def _fused_perceptron(module: nn.Module, product: Product) -> GatedPerceptron | None:
    """For a multilayer perceptron of gate, up and down projection."""
    names = ("gate_proj", "up_proj", "down_proj")
    gate, up, down = (cast(Any, getattr(module, name, None)) for name in names)
    merged = merged_of([gate, up])
    is_linear = isinstance(down, nn.Linear | WeightOnlyLinear)
    if not is_linear or (merged is None and not can_merge([gate, up])):
        return None
    sample = sample_input(_like(gate), gate.in_features)
    with torch.inference_mode():
        expected = module(sample)
        both = torch.cat([gate(sample), up(sample)], dim=-1)
        for activation in ACTIVATIONS:
            ours = down(gated(both, activation))
            if is_close(ours, expected, is_of_rows=row_product_of(down) is not None):
                merged = merged or MergedLinear([gate, up], product)
                return GatedPerceptron(merged, down, activation)
    return None


def _like(module: nn.Linear | WeightOnlyLinear) -> Tensor:
    return module.weight if isinstance(module, nn.Linear) else module.like


def _fuse_rotary(model: nn.Module) -> bool:
    """Models look the function up in their own source file, once for all of their layers."""
    source: Any = sys.modules[type(model).__module__]
    stock = getattr(source, _ROTARY_NAME, None)
    if stock is None or hasattr(stock, "stock"):
        return stock is not None
    device = next(model.parameters()).device
    query, key = (torch.randn(1, heads, 5, 64, device=device) for heads in (4, 2))
    query, key = query.bfloat16(), key.bfloat16()
    angles = torch.randn(1, 5, 32, device=device).repeat(1, 1, 2)
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    try:
        expected = stock(query, key, cos, sin)
    except (RuntimeError, TypeError):  # it wants angles of another shape, such as gpt-oss
        return False
    fused = rotary(query, key, cos, sin)
    if not all(is_close(ours, theirs) for ours, theirs in zip(fused, expected, strict=True)):
        return False

    def apply_rotary_pos_emb(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, **others: Any
    ) -> tuple[Tensor, Tensor]:
        """Ours for what it was made for, else the model's own."""
        # Another model of this process may be of the same source file, and on a CPU.
        is_ours = q.device.type == device.type and q.dtype in _DTYPES and q.shape[0] == 1
        if is_ours and not others and cos.shape[-1] == q.shape[-1]:
            return rotary(q, k, cos, sin)
        rotated: tuple[Tensor, Tensor] = stock(q, k, cos, sin, **others)
        return rotated

    apply_rotary_pos_emb.stock = stock  # type: ignore[attr-defined]
    setattr(source, _ROTARY_NAME, apply_rotary_pos_emb)
    return True


def has_our_forward(module: nn.Module) -> bool:
    """Whether a kernel has taken the module over."""
    return "forward" in vars(module)


def _replace_forward(module: Any, forward: Any) -> None:
    module.forward = forward
