"""Attention of a layer whose heads are normed, rotated and stored by one kernel.

Only for layers of the common form
    o_proj(attention(rotary(norm(q_proj(x))), rotary(norm(k_proj(x))), v_proj(x)))
with or without norms over each head, which a sample has to confirm before a layer is changed:
the layer's own code and ours run over the same made-up attention.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from verifier.torch_target.kernels.head_shape import HeadShape, attention_windows
from verifier.torch_target.kernels.heads import HeadForm, rotate_and_store
from verifier.torch_target.kernels.row_quantisation import EightBitRows, ScaledSums, with_scales
from verifier.torch_target.kernels.score_rule import ScoreRule
from verifier.torch_target.layers.fused_norm import fused_norm_of
from verifier.torch_target.layers.layer_checks import is_close, sample_input
from verifier.torch_target.layers.merged_projections import MergedProduct
from verifier.torch_target.layers.row_product import RowProduct, scales_apart

logger = logging.getLogger(__name__)


class ProjectedAttention(Protocol):
    """One round laid out over the cache, for layers that leave their heads to it."""

    def attend_projected(
        self,
        layer: int,
        projected: Tensor | ScaledSums,
        form: HeadForm,
        angles: tuple[Tensor, Tensor],
        rule: ScoreRule,
    ) -> Tensor:
        """Norm, rotate, store and attend: [1, num_tokens, num_heads, head_size].

        `projected` is [num_tokens, heads of queries, keys and values side by side], `angles`
        their cosines and sines [1, num_tokens, head_size].
        """
        ...


class FusedAttention:
    """The forward pass of an attention module of the common form."""

    def __init__(self, module: Any, merged: MergedProduct, form: HeadForm, rule: ScoreRule) -> None:
        """Prepare; `module` itself is not changed."""
        self._module = module
        self._merged = merged
        self._form = form
        self._rule = rule
        self._stock = module.forward

    def takes_rows(self, angles: tuple[Tensor, Tensor] | None) -> bool:
        """Whether the input may be in 8-bit floats, as the projections take it."""
        is_whole = angles is not None and self._is_whole(angles)
        return is_whole and isinstance(self._merged.whole, RowProduct)

    def _is_whole(self, angles: tuple[Tensor, Tensor]) -> bool:
        return angles[0].shape[-1] == self._form.head_size  # else the module rotates a part

    def __call__(
        self,
        hidden_states: Tensor | EightBitRows,
        position_embeddings: tuple[Tensor, Tensor],
        round_attention: ProjectedAttention,
        **others: Any,
    ) -> tuple[Tensor, None]:
        if not self._is_whole(position_embeddings):
            unchanged: tuple[Tensor, None] = self._stock(
                hidden_states=hidden_states,
                position_embeddings=position_embeddings,
                round_attention=round_attention,
                **others,
            )
            return unchanged
        attended = round_attention.attend_projected(
            self._module.layer_idx,
            self._projected(hidden_states),
            self._form,
            position_embeddings,
            self._rule,
        )
        return self._module.o_proj(attended.flatten(2)), None

    def _projected(self, hidden_states: Tensor | EightBitRows) -> Tensor | ScaledSums:
        projected = scales_apart(self._merged.whole)(hidden_states)
        return projected if isinstance(projected, ScaledSums) else projected[0]


def fuse_attention(module: Any, merged: MergedProduct | None, config: Any) -> bool:
    """Change an attention module of the common form; `merged` are its three projections.

    `config` is the text configuration of the model.
    """
    heads = HeadShape.of(config)
    form = None if merged is None else _form_of(module, merged, heads)
    if merged is None or form is None:
        return False
    probe = _Probe(heads, frozenset(attention_windows(config)))
    call = partial(_sample_call, module, form.head_size, probe)
    try:
        with torch.inference_mode():
            theirs = call(module.forward)
            if probe.rule is None:
                return False
            fused = FusedAttention(module, merged, form, probe.rule)
            ours = call(fused)
    except Exception as error:  # noqa: BLE001 (its code is foreign, and may want anything else)
        logger.debug("%s keeps its own heads: %s", type(module).__name__, error)
        return False
    if not is_close(ours, theirs, is_of_rows=isinstance(merged.whole, RowProduct)):
        return False
    module.forward = fused
    return True


def _form_of(module: Any, merged: MergedProduct, heads: HeadShape) -> HeadForm | None:
    """What the heads would be if the module were of the common form."""
    head_size, rest = divmod(merged.sizes[0], heads.num_heads)
    kv_size = heads.num_kv_heads * head_size
    if rest or head_size % 2 or merged.sizes[1:] != [kv_size, kv_size]:
        return None
    norms = [fused_norm_of(getattr(module, name, None)) for name in ("q_norm", "k_norm")]
    forms = [norm.form for norm in norms if norm is not None]
    if len(forms) < 2:
        return HeadForm(heads, head_size, None)  # the sample tells whether it has others
    query, key = forms
    if query.adds_one != key.adds_one or len(query.weight) != head_size:
        return None
    return HeadForm(heads, head_size, (query, key))


def _sample_call(module: Any, head_size: int, probe: _Probe, forward: Any) -> Tensor:
    """The output for a made-up input."""
    projection = module.q_proj
    like = cast(Tensor, projection.weight if type(projection) is nn.Linear else projection.like)
    x = sample_input(like, projection.in_features)
    angles = sample_input(like.float(), head_size // 2).repeat(1, 1, 2)
    output = forward(
        hidden_states=x,
        position_embeddings=(angles.cos().to(x.dtype), angles.sin().to(x.dtype)),
        attention_mask=None,
        round_attention=probe,
    )[0]
    return cast(Tensor, output)


class _Probe:
    """An attention over one token each, which shows what heads a module hands over.

    Its output depends on all of them. It stands for a round's `RoundAttention` of either kind.
    """

    def __init__(self, heads: HeadShape, windows: frozenset[int | None]) -> None:
        self.heads = heads
        self.windows = windows
        self.rule: ScoreRule | None = None

    def attend(
        self, _layer: int, query: Tensor, key: Tensor, value: Tensor, rule: ScoreRule
    ) -> Tensor:
        """Of a module's own code: heads are [1, heads, num_tokens, head_size]."""
        self.rule = rule
        query, key, value = (heads[0].transpose(0, 1) for heads in (query, key, value))
        return self._attended(query, key, value)

    def attend_projected(
        self,
        _layer: int,
        rows: Tensor | ScaledSums,
        form: HeadForm,
        angles: tuple[Tensor, Tensor],
        _rule: ScoreRule,
    ) -> Tensor:
        """By our kernel, over a cache of these tokens alone."""
        numbers = with_scales(rows).values
        value = form.query_key_value(numbers)[2]
        keys, values = torch.zeros_like(value), torch.zeros_like(value)
        keys, values = keys.contiguous(), values.contiguous()
        slots = torch.arange(len(numbers), device=numbers.device)
        cos, sin = angles
        query = rotate_and_store(rows, form, cos[0], sin[0], keys, values, slots)
        return self._attended(query, keys, values)

    def _attended(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        both = (2 * key + value).repeat_interleave(self.heads.num_members, 1)
        return (query + both)[None]
