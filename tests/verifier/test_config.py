from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.config.layers import ConfigFile, read_config_files
from shared.config.rendering import effective_toml, example_toml
from shared.config.sections import load_config
from shared.config.words import description
from shared.errors import ConfigError
from verifier.config import VerifierConfig

EXAMPLE = Path(__file__).parents[2] / "devices" / "verifier.toml"


def load(text: str) -> VerifierConfig:
    return load_config(VerifierConfig, [ConfigFile("verifier.toml", text)]).config


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return caught.value.problems


def test_the_shipped_example_holds_the_defaults() -> None:
    assert VerifierConfig() == load_config(VerifierConfig, read_config_files(EXAMPLE)).config


def test_the_shipped_example_is_up_to_date() -> None:
    assert example_toml(VerifierConfig) == EXAMPLE.read_text(encoding="utf-8")


def test_every_key_says_what_it_is_for() -> None:
    unexplained = [
        f"{section.name}.{field.name}"
        for section in msgspec.structs.fields(VerifierConfig)
        for field in msgspec.structs.fields(section.type)
        if not description(field.type)
    ]
    assert [] == unexplained


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_a_target_runs_on_a_processor_or_one_gpu(device: str) -> None:
    assert device == load(f"target.device = '{device}'").target.device


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cuda:1\\n"])
def test_another_place_is_refused(device: str) -> None:
    (problem,) = problems_of(f'target.device = "{device}"')
    assert problem.endswith("must be auto, cpu, cuda or cuda:N")


def test_arguments_of_the_chat_template_are_a_table_or_stand_in_one_line() -> None:
    expected = {"enable_thinking": False}
    table = "[target.chat_template_kwargs]\nenable_thinking = false"
    assert expected == load(table).target.chat_template_kwargs
    line = {"GOODSPEED__TARGET__CHAT_TEMPLATE_KWARGS": "{ enable_thinking = false }"}
    loaded = load_config(VerifierConfig, environment=line)
    assert expected == loaded.config.target.chat_template_kwargs
    assert "chat_template_kwargs = { enable_thinking = false }" in effective_toml(loaded)


@pytest.mark.parametrize("text", ["1", "'{ a'", "[]"])
def test_other_arguments_of_the_chat_template_are_refused(text: str) -> None:
    (problem,) = problems_of(f"target.chat_template_kwargs = {text}")
    assert problem.endswith("must be a table, such as { key = 1 }")


@pytest.mark.parametrize(("text", "budget"), [("'auto'", "auto"), ("0", 0), ("64", 64)])
def test_the_budget_is_derived_or_given(text: str, budget: object) -> None:
    assert budget == load(f"rounds.budget_tokens = {text}").rounds.budget_tokens


@pytest.mark.parametrize(("text", "tokens"), [("'auto'", "auto"), ("4096", 4096)])
def test_the_cache_takes_what_is_free_or_what_is_given(text: str, tokens: object) -> None:
    assert tokens == load(f"target.kv_cache_tokens = {text}").target.kv_cache_tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rounds.budget_tokens = 1025", "1025: must be at most rounds.max_round_tokens = 1024"),
        ("rounds.budget_tokens = -1", "-1: must be at least 0 or auto"),
        (
            "rounds.prefill_chunk_tokens = 2000",
            "2000: must be at most rounds.max_round_tokens = 1024",
        ),
        ("rounds.prefill_slowdown_limit = -0.5", "-0.5: must be from 0 to 100"),
        ("rounds.device_prefill_slowdown_limit = -1.0", "-1.0: must be from 0 to 100"),
        ("rounds.reserved_output_tokens = 0", "0: must be from 1 to 1048576"),
        ("rounds.prefix_sharing = 'none'", '"none": must be all, device or off'),
        ("rounds.max_draft_length = 65", "65: must be from 0 to 64"),
        ("rounds.max_window = 129", "129: must be from 0 to 128"),
        (
            "rounds.policy = 'godspeed'",
            '"godspeed": must be awc, fixed, goodspeed, greedy, random, rate or threshold '
            "(did you mean goodspeed?)",
        ),
        ("target.kv_cache_tokens = 2047", "2047: must be at least target.context_tokens = 2048"),
        ("target.kv_cache_tokens = 1", "1: must be from 128 to 1073741824 or auto"),
        ("target.memory_fraction = 0.0", "0.0: must be from 0.1 to 1"),
        ("limits.max_messages_per_second = 9", "9: must be from 10 to 10000000"),
        ("limits.max_bytes_per_second = 1023", "1023: must be from 1024 to 1099511627776"),
        ("limits.max_context_tokens_per_device = 0", "0: must be at least 1 or auto"),
        (
            "target.quantisation = 'int3'",
            '"int3": must be fp8, int4, int8 or none (did you mean int8?)',
        ),
    ],
)
def test_a_limit_is_named_in_plain_words(text: str, words: str) -> None:
    key = text.split(" = ")[0]
    assert (f"verifier.toml:1: {key} = {words}",) == problems_of(text)


def test_rounds_that_wait_for_every_board_can_promise_nothing() -> None:
    (problem,) = problems_of("[rounds]\nbarrier = true\nslo_token_seconds = 0.1")
    assert problem.startswith("verifier.toml:3: rounds.slo_token_seconds = 0.1: must be 0 with")


def test_a_promise_has_a_time_and_a_percentile_that_make_sense() -> None:
    seconds, percentile = problems_of("[rounds]\nslo_token_seconds = -1.0\nslo_percentile = 10.0")
    assert "verifier.toml:2: rounds.slo_token_seconds" in seconds
    assert "verifier.toml:3: rounds.slo_percentile" in percentile
