"""How a model wants to be sampled where a request is silent, by its own settings.

As in vLLM these are the numbers of `generation_config.json`; in a GGUF file `general.sampling.*`,
and where it says nothing what is known of its family (`known_sampling`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

import msgspec

from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.model_defaults import ModelDefaults, ProcessorField
from shared.speculation.sampling import SamplingField, SamplingParameters
from verifier.torch_target.model_files.gguf_parts import GgufModel
from verifier.torch_target.model_files.known_sampling import known_sampling

logger = logging.getLogger(__name__)

_GGUF_KEYS = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}
_Fields = TypeVar("_Fields", SamplingParameters, LogitProcessors)


def sampling_defaults(model: Any, gguf_model: GgufModel | None) -> ModelDefaults:
    """What the model says of itself, or what is known of it; else temperature 1, uncut."""
    if gguf_model is None:
        said: dict[str, object] = (
            model.generation_config.to_dict() if model.generation_config else {}
        )
        if said.get("do_sample") is False:
            said["temperature"] = 0
        return read_sampling(said)
    fields = gguf_model.fields
    given = {name: fields.get(f"general.sampling.{key}") for name, key in _GGUF_KEYS.items()}
    if not any(value is not None for value in given.values()):
        return known_sampling(fields)
    return read_sampling(given)


def read_sampling(said: Mapping[str, object]) -> ModelDefaults:
    """Those of the numbers that can be; the log names the others."""
    return ModelDefaults(
        _read(said, SamplingParameters, get_args(SamplingField)),
        _read(said, LogitProcessors, get_args(ProcessorField)),
    )


def _read(said: Mapping[str, object], kind: type[_Fields], names: Sequence[str]) -> _Fields:
    """Of these fields what is said; all others are neutral."""
    neutral = msgspec.structs.asdict(kind())
    # The file's 0.95 is a float32 in GGUF.
    given = {name: _shortest(said[name]) for name in names if said.get(name) is not None}
    try:
        return msgspec.convert(list({**neutral, **given}.values()), kind)
    except msgspec.ValidationError as error:
        logger.warning("the model's own sampling cannot be: %s", error)
        return kind()


def _shortest(value: object) -> object:
    """The shortest number that is the same in float32, as people wrote it."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
