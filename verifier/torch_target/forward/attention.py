"""Attention of a round over a key/value cache in blocks, as transformers calls it.

All streams of a round stand in one row of tokens. What a layer stores and what each token sees is
in the round's `RoundAttention`, which comes down through the model's own keyword arguments. This
module must never know where the model runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface

from shared.errors import ModelError
from verifier.torch_target.forward.round_inputs import RoundInputs
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.score_rule import ScoreRule

_ATTENTION_NAME = "goodspeed"

# What an architecture may ask of its attention and ours does not do.
_UNSUPPORTED = {
    "position_bias": "a position bias",
}


class RoundAttention(Protocol):
    """One round laid out over the cache, the same for all layers."""

    @property
    def heads(self) -> HeadShape:
        """What every layer must have."""
        ...

    @property
    def windows(self) -> frozenset[int | None]:
        """The windows that layers may have in this round; None: no window."""
        ...

    def attend(
        self,
        layer: int,
        query: Tensor,  # [1, num_heads, num_tokens, head_size]
        key: Tensor,  # [1, num_kv_heads, num_tokens, head_size]
        value: Tensor,
        rule: ScoreRule,
    ) -> Tensor:
        """Store keys and values, then attend; the output is [1, num_tokens, num_heads, size]."""
        ...


def use_round_attention(model: Any) -> None:
    """Make a model's layers call `attend_round`."""
    model.set_attn_implementation(_ATTENTION_NAME)


def model_logits(model: Any, inputs: RoundInputs, round_attention: RoundAttention) -> Tensor:
    """Logits [num_rows, vocab_size] of inputs on the model's device."""
    output = model(
        input_ids=inputs.token_ids[None],
        position_ids=inputs.positions[None],
        use_cache=False,
        logits_to_keep=inputs.rows,
        round_attention=round_attention,
    )
    logits: Tensor = output.logits[0]
    return logits


def attend_round(
    module: nn.Module,
    query: Tensor,  # [1, num_heads, num_tokens, head_size]
    key: Tensor,  # [1, num_kv_heads, num_tokens, head_size]
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    round_attention: RoundAttention | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Attention of one layer; the output is [1, num_tokens, num_heads, head_size].

    Every architecture that lets its attention be chosen hands keyword arguments on.

    Raises:
        ModelError: the layer wants what this attention does not do.
    """
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    if round_attention is None:
        raise ModelError(f"layer {layer} of the target does not hand the round on to its attention")
    window = sliding_window or None  # some say 0 for none
    _check(layer, HeadShape(query.shape[1], key.shape[1]), window, round_attention, others)
    rule = ScoreRule(
        scale=query.shape[3] ** -0.5 if scaling is None else scaling,
        window=window,
        softcap=softcap,
        sinks=s_aux,
    )
    return round_attention.attend(layer, query, key, value, rule), None


# No mask function is registered for the name: transformers then builds no mask at all, where even a
# function that returns None would cost it a search for packed sequences, with a synchronisation.
AttentionInterface.register(_ATTENTION_NAME, attend_round)


def _check(
    layer: int,
    heads: HeadShape,
    window: int | None,
    round_attention: RoundAttention,
    others: Mapping[str, object],
) -> None:
    for name, what in _UNSUPPORTED.items():
        if others.get(name) is not None:
            raise ModelError(f"layer {layer} of the target uses {what}, which is not supported")
    if others.get("is_causal") is False:
        raise ModelError(f"layer {layer} of the target is not causal")
    expected = round_attention.heads
    if heads != expected:
        raise ModelError(
            f"layer {layer} of the target has {heads.num_heads} query and {heads.num_kv_heads} key "
            f"heads, not {expected.num_heads} and {expected.num_kv_heads}"
        )
    if window not in round_attention.windows:
        raise ModelError(
            f"layer {layer} of the target has a window of {window} tokens, "
            "which its configuration does not name"
        )
