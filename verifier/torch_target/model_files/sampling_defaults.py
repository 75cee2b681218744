"""How a model wants to be sampled where a request is silent, by its own settings.

As in vLLM these are the numbers of `generation_config.json`; in a GGUF file `general.sampling.*`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.speculation.sampling import PLAIN_SAMPLING, SamplingParameters
from verifier.torch_target.model_files.gguf_parts import GgufModel

logger = logging.getLogger(__name__)

_GGUF_KEYS = {"temperature": "temp", "top_k": "top_k", "top_p": "top_p"}
# What a model may ask for besides, with the value that asks for nothing.
_UNKNOWN_HERE = {"min_p": 0, "repetition_penalty": 1, "penalty_repeat": 1}


def sampling_defaults(model: Any, gguf_model: GgufModel | None) -> SamplingParameters:
    """What the model says of itself; else temperature 1 without truncation."""
    if gguf_model is None:
        said: dict[str, object] = (
            model.generation_config.to_dict() if model.generation_config else {}
        )
        if said.get("do_sample") is False:
            said["temperature"] = 0
        return read_sampling(said)
    fields = gguf_model.fields
    names = {**_GGUF_KEYS, **{name: name for name in _UNKNOWN_HERE}}
    return read_sampling(
        {name: fields.get(f"general.sampling.{key}") for name, key in names.items()}
    )


def read_sampling(said: Mapping[str, object]) -> SamplingParameters:
    """Those of the numbers that can be; the log names the others."""
    for name, neutral in _UNKNOWN_HERE.items():
        if said.get(name) not in (None, neutral):
            logger.warning("the model's own %s = %s is not supported", name, said[name])
    neutral_sampling = msgspec.structs.asdict(PLAIN_SAMPLING)
    given = [
        default if said.get(field) is None else said[field]
        for field, default in neutral_sampling.items()
    ]
    try:
        # The file's 0.95 is a float32 in GGUF.
        return msgspec.convert([_shortest(value) for value in given], SamplingParameters)
    except msgspec.ValidationError as error:
        logger.warning("the model's own sampling cannot be: %s", error)
        return PLAIN_SAMPLING


def _shortest(value: object) -> object:
    """The shortest number that is the same in float32, as people wrote it."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
