"""What a model says about its sampling is read from both formats, and what cannot be is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import pytest

from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.model_defaults import PLAIN_DEFAULTS, ModelDefaults
from shared.speculation.sampling import PLAIN_SAMPLING, SamplingParameters
from tests.support.models.target_loading import load_on_cpu
from tests.support.models.tiny_directory import write_tiny_directory
from tests.support.models.tiny_gguf import write_tiny_llama
from verifier.torch_target.model_files.sampling_defaults import read_sampling


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", PLAIN_SAMPLING),
        ('{"do_sample": true, "temperature": 0.6, "top_p": 0.9}', SamplingParameters(0.6, 0, 0.9)),
        ('{"temperature": 0.7, "top_k": 20, "top_p": 0.8}', SamplingParameters(0.7, 20, 0.8)),
        ('{"do_sample": false, "temperature": 0.7}', SamplingParameters(0.0)),
    ],
)
def test_a_directory_has_generation_settings(
    text: str, expected: SamplingParameters, tmp_path: Path
) -> None:
    write_tiny_directory(tmp_path)
    (tmp_path / "generation_config.json").write_text(text)
    assert expected == load_on_cpu(tmp_path).defaults.sampling


def test_a_gguf_file_has_fields(tmp_path: Path) -> None:
    def add_sampling(writer: gguf.GGUFWriter) -> None:
        writer.add_float32("general.sampling.temp", 0.6)
        writer.add_int32("general.sampling.top_k", 20)
        writer.add_float32("general.sampling.top_p", 0.95)
        writer.add_float32("general.sampling.min_p", 0.05)
        writer.add_float32("general.sampling.penalty_repeat", 1.1)

    write_tiny_llama(tmp_path / "tiny.gguf", edit=add_sampling)
    expected = ModelDefaults(
        SamplingParameters(0.6, 20, 0.95), LogitProcessors(min_p=0.05, repetition_penalty=1.1)
    )
    assert expected == load_on_cpu(tmp_path / "tiny.gguf").defaults


def test_a_gguf_file_without_fields_says_nothing(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf")
    assert PLAIN_DEFAULTS == load_on_cpu(tmp_path / "tiny.gguf").defaults


def test_a_silent_gguf_file_of_a_known_family_is_sampled_as_its_authors_say(tmp_path: Path) -> None:
    def add_name(writer: gguf.GGUFWriter) -> None:
        writer.add_string("general.basename", "SmolLM2")
        writer.add_chat_template("{{ messages[0]['content'] }}")

    write_tiny_llama(tmp_path / "tiny.gguf", edit=add_name)
    expected = ModelDefaults(SamplingParameters(temperature=0.2, top_p=0.9))
    assert expected == load_on_cpu(tmp_path / "tiny.gguf").defaults


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"temperature": -1.0}, "the model's own sampling cannot be: Expected `float` >= 0.0"),
        ({"top_p": "much"}, "the model's own sampling cannot be: Expected `float`, got `str`"),
        ({"min_p": 2.0}, "the model's own sampling cannot be: Expected `float` <= 1.0"),
        ({"repetition_penalty": 0}, "the model's own sampling cannot be: Expected `float` >= 0.01"),
    ],
)
def test_what_cannot_be_is_named_and_left_out(
    said: Mapping[str, object], sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert PLAIN_DEFAULTS == read_sampling(said)
    assert sentence in caplog.text


def test_a_model_may_ask_for_penalties_and_min_p() -> None:
    """As Qwen2.5 does."""
    said = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    expected = ModelDefaults(
        SamplingParameters(0.7, 20, 0.8), LogitProcessors(repetition_penalty=1.05)
    )
    assert expected == read_sampling(said)
