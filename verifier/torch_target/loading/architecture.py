"""Which of transformers' architectures can be a target: those whose whole state is keys and values.

A round mixes streams and rolls them back by forgetting slots, so a layer may look at nothing else
than the keys and values of its own stream. What a configuration does not tell, the attention
refuses when the model first runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.errors import ModelError

_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})


def check_architecture(config: Any) -> None:
    """Accept the text configuration of a causal language model.

    Raises:
        ModelError: the architecture needs something that rounds over blocks cannot give it.
    """
    obstacle = next(_obstacles(config), None)
    if obstacle is not None:
        raise ModelError(f"a target of type {config.model_type} cannot be served: {obstacle}")


def _obstacles(config: Any) -> Iterator[str]:
    for layer_type in sorted(set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES):
        yield f"it has layers of the type {layer_type}"
    if not getattr(config, "num_attention_heads", None):
        yield "it has no attention heads"
    if getattr(config, "is_encoder_decoder", False):
        yield "it has an encoder"
    if getattr(config, "use_bidirectional_attention", False):
        yield "its attention is not causal"
    if getattr(config, "num_kv_shared_layers", 0):
        yield "its layers share keys and values"
