"""Which of transformers' architectures can be a target: those whose whole state is keys and values.

A round mixes streams and rolls them back by forgetting slots, so a layer may look at nothing else
than the keys and values of its own stream. What a configuration does not tell, the attention
refuses when the model first runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shared.errors import ModelError

_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
# Rotations that depend on the longest sequence of the batch, which is another stream's business.
_BATCH_ROPE_TYPES = frozenset({"dynamic", "longrope"})


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
    for rope_type in sorted(_rope_types(getattr(config, "rope_parameters", None) or {})):
        if rope_type in _BATCH_ROPE_TYPES:
            yield f"its rotations of the type {rope_type} depend on the batch"


def _rope_types(parameters: Mapping[str, Any]) -> set[str]:
    """Of all layers, or of each kind of layer."""
    rope_types = {parameters["rope_type"]} if "rope_type" in parameters else set()
    for value in parameters.values():
        if isinstance(value, Mapping):
            rope_types |= _rope_types(value)
    return rope_types
