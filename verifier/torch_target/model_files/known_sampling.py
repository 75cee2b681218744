"""How known families of models are to be sampled, for GGUF files that do not say so.

Most converters leave `generation_config.json` out, and at OpenAI's default of temperature 1 a small
model talks nonsense. The numbers are those of the models' own `generation_config.json` (Llama 3,
Qwen3, Gemma 3) or of their card (SmolLM2, whose file has none).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared.speculation.model_defaults import PLAIN_DEFAULTS, ModelDefaults
from shared.speculation.sampling import SamplingParameters

_BY_BASENAME = (  # of `general.basename`, whatever its case
    (r"smollm2", SamplingParameters(temperature=0.2, top_p=0.9)),
    (r"(meta-)?llama-3(\.[123])?", SamplingParameters(temperature=0.6, top_p=0.9)),
    (r"qwen3", SamplingParameters(temperature=0.6, top_k=20, top_p=0.95)),
    (r"gemma-3", SamplingParameters(top_k=64, top_p=0.95)),
)


def known_sampling(fields: Mapping[str, object]) -> ModelDefaults:
    """By a GGUF file's fields; a model without a chat template is none that one talks to."""
    name = fields.get("general.basename")
    if not isinstance(name, bytes) or "tokenizer.chat_template" not in fields:
        return PLAIN_DEFAULTS
    basename = name.decode(errors="replace").lower()
    for pattern, sampling in _BY_BASENAME:
        if re.fullmatch(pattern, basename):
            return ModelDefaults(sampling)
    return PLAIN_DEFAULTS
