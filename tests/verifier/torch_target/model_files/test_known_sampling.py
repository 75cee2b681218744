from __future__ import annotations

import pytest

from shared.speculation.model_defaults import PLAIN_DEFAULTS, ModelDefaults
from shared.speculation.sampling import SamplingParameters
from verifier.torch_target.model_files.known_sampling import known_sampling


@pytest.mark.parametrize(
    ("basename", "expected"),
    [
        (b"smollm2", SamplingParameters(temperature=0.2, top_p=0.9)),
        (b"Smollm2", SamplingParameters(temperature=0.2, top_p=0.9)),
        (b"Llama-3.2", SamplingParameters(temperature=0.6, top_p=0.9)),
        (b"Meta-Llama-3", SamplingParameters(temperature=0.6, top_p=0.9)),
        (b"Qwen3", SamplingParameters(temperature=0.6, top_k=20, top_p=0.95)),
        (b"Gemma-3", SamplingParameters(top_k=64, top_p=0.95)),
    ],
)
def test_a_model_that_one_talks_to_is_known_by_its_basename(
    basename: bytes, expected: SamplingParameters
) -> None:
    fields = {"general.basename": basename, "tokenizer.chat_template": b"..."}
    assert ModelDefaults(expected) == known_sampling(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"general.basename": b"smollm2"},  # a base model: nothing to chat with
        {"general.basename": b"smollm2-merge", "tokenizer.chat_template": b"..."},
        {"general.basename": 2, "tokenizer.chat_template": b"..."},
        {"general.basename": b"\xff", "tokenizer.chat_template": b"..."},
        {"tokenizer.chat_template": b"..."},
    ],
)
def test_of_others_nothing_is_known(fields: dict[str, object]) -> None:
    assert PLAIN_DEFAULTS == known_sampling(fields)
