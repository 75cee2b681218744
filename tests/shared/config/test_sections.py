from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from edge_agent.config import AgentConfig
from shared.config.layers import ConfigFile
from shared.config.sections import (
    Loaded,
    LogSection,
    Section,
    changed_keys,
    config_report,
    load_config,
)
from shared.config.words import SECRET, must_be
from shared.errors import ConfigError


class VerifierSection(Section, frozen=True):
    url: Annotated[str, Meta(pattern="^wss?://", extra=must_be("ws:// or wss://"))] = "ws://a"
    token: Annotated[str, Meta(pattern="^gsd_", extra=must_be("gsd_…") | SECRET)] | None = None


class DraftSection(Section, frozen=True):
    threads: Annotated[int, Meta(ge=1)] = 4
    budget: Annotated[int, Meta(ge=0)] | Literal["auto"] = "auto"
    context_tokens: int = 100
    cache_tokens: int = 1000
    cache: Path | None = None

    def unfit(self) -> Iterator[tuple[str, str]]:
        if self.cache_tokens < self.context_tokens:
            yield "cache_tokens", f"at least draft.context_tokens = {self.context_tokens}"


class Config(msgspec.Struct, frozen=True):
    verifier: VerifierSection = VerifierSection()
    draft: DraftSection = DraftSection()
    log: LogSection = LogSection()


def load(*texts: str, **layers: Any) -> Loaded[Config]:
    files = [ConfigFile(f"{number}.toml", text) for number, text in enumerate(texts)]
    return load_config(Config, files, **layers)


def problems_of(*texts: str, **layers: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(*texts, **layers)
    return caught.value.problems


def outcome(*texts: str, **layers: Any) -> Config | ConfigError:
    try:
        return load(*texts, **layers).config
    except ConfigError as error:
        return error


def test_all_problems_come_out_at_once_each_with_its_place() -> None:
    files = [
        ConfigFile("/etc/goodspeed/agent.toml", "[draft]\n\nthreads = 0\n"),
        ConfigFile("/etc/goodspeed/agent.toml.d/60-board.toml", "[draft]\nthread = 2\n"),
    ]
    environment = {"GOODSPEED__VERIFIER__URL": "http://gpu1"}
    with pytest.raises(ConfigError) as caught:
        load_config(Config, files, environment)
    assert """\
/etc/goodspeed/agent.toml:3: draft.threads = 0: must be at least 1
/etc/goodspeed/agent.toml.d/60-board.toml:2: draft.thread: unknown key (did you mean draft.threads?)
environment GOODSPEED__VERIFIER__URL: verifier.url = "http://gpu1": must be ws:// or wss://
3 problems. Nothing was started.""" == config_report(caught.value)


def test_one_problem_is_not_called_problems() -> None:
    report = config_report(ConfigError(("agent.toml:1: x: unknown key",)))
    assert "agent.toml:1: x: unknown key\n1 problem. Nothing was started." == report


def test_without_layers_there_are_only_defaults() -> None:
    loaded = load()
    assert Config() == loaded.config
    assert {"default"} == set(loaded.origins.values())


def test_the_highest_layer_stands() -> None:
    loaded = load(
        "[draft]\nthreads = 1\ncontext_tokens = 1\ncache_tokens = 1\n",
        "[draft]\nthreads = 2\ncontext_tokens = 2\ncache_tokens = 2\n",
        environment={"GOODSPEED__DRAFT__THREADS": "3", "GOODSPEED__DRAFT__CACHE_TOKENS": "3"},
        overrides={"draft.threads": 4, "draft.cache_tokens": None},
    )
    assert DraftSection(threads=4, context_tokens=2, cache_tokens=3) == loaded.config.draft
    assert "command line" == loaded.origins["draft.threads"]
    assert "1.toml:3" == loaded.origins["draft.context_tokens"]
    assert "environment GOODSPEED__DRAFT__CACHE_TOKENS" == loaded.origins["draft.cache_tokens"]
    assert "default" == loaded.origins["draft.cache"]


def test_a_wrong_value_that_a_higher_layer_replaces_does_no_harm() -> None:
    assert 2 == load("draft.threads = 0", "draft.threads = 2").config.draft.threads


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("auto", "auto")])
def test_numbers_may_arrive_as_text_from_the_environment(text: str, value: object) -> None:
    environment = {"GOODSPEED__DRAFT__BUDGET": text}
    assert value == load(environment=environment).config.draft.budget


def test_numbers_in_quotes_are_wrong_in_a_file() -> None:
    expected = '0.toml:1: draft.threads = "2": must be a whole number, at least 1'
    assert (expected,) == problems_of('draft.threads = "2"')


def test_the_home_directory_may_be_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/board")
    loaded = load("draft.cache = '~/cache'")
    assert Path("/home/board/cache") == loaded.config.draft.cache


def test_a_path_may_come_from_the_command_line_as_a_path() -> None:
    loaded = load(overrides={"draft.cache": Path("/a")})
    assert Path("/a") == loaded.config.draft.cache


def test_an_empty_path_is_wrong() -> None:
    assert ('0.toml:1: draft.cache = "": must be a path in quotes',) == problems_of(
        'draft.cache = ""'
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("drafts.threads = 1", "drafts.threads: unknown key (did you mean draft.threads?)"),
        ("threads = 1", "threads: unknown key (did you mean draft.threads?)"),
        ("verifier.level = 1", "verifier.level: unknown key (did you mean log.level?)"),
        ("colour.shade = 1", "colour.shade: unknown key"),
        ("draft = 1", "draft: must be a section, [draft]"),
    ],
)
def test_an_unknown_key_meets_the_one_that_was_meant(text: str, sentence: str) -> None:
    assert (f"0.toml:1: {sentence}",) == problems_of(text)


def test_values_that_do_not_go_together_are_named_at_the_one_to_change() -> None:
    words = "draft.cache_tokens = 50: must be at least draft.context_tokens = 100"
    assert (f"0.toml:1: {words}",) == problems_of("draft.cache_tokens = 50")


def test_a_default_that_does_not_go_with_a_setting_is_called_so() -> None:
    words = "draft.cache_tokens = 1000: must be at least draft.context_tokens = 2000"
    assert (f"default: {words}",) == problems_of("draft.context_tokens = 2000")


def test_values_beside_a_wrong_one_are_not_compared() -> None:
    text = "draft.context_tokens = 'many'\ndraft.cache_tokens = 50"
    expected = '0.toml:1: draft.context_tokens = "many": must be a whole number'
    assert (expected,) == problems_of(text)


def test_a_secret_is_never_shown() -> None:
    assert ("0.toml:1: verifier.token: must be gsd_…",) == problems_of("verifier.token = 'pst'")


def test_a_secret_must_not_stand_where_everyone_can_read_it() -> None:
    file = ConfigFile("a.toml", "verifier.token = 'gsd_x'", is_world_readable=True)
    with pytest.raises(ConfigError) as caught:
        load_config(Config, [file])
    words = "a secret must not stand in a file that everyone can read (chmod 640)"
    assert (f"a.toml:1: verifier.token: {words}",) == caught.value.problems


def test_a_file_with_a_syntax_error_does_not_hide_the_problems_of_another() -> None:
    first, second = problems_of("[draft", "draft.threads = 0")
    assert first.startswith("0.toml:1: not valid TOML: ")
    assert "1.toml:1: draft.threads = 0: must be at least 1" == second


@given(st.text(max_size=200))
def test_any_text_gives_a_configuration_or_a_config_error(text: str) -> None:
    assert isinstance(outcome(text), Config | ConfigError)


_values = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(), st.lists(st.integers()), st.none()
)


@given(
    st.dictionaries(st.sampled_from(["draft.threads", "draft.cache", "log.level", "x"]), _values)
)
def test_any_value_gives_a_configuration_or_a_config_error(overrides: dict[str, object]) -> None:
    assert isinstance(outcome(overrides=overrides), Config | ConfigError)


def test_what_differs_between_two_configurations_is_named() -> None:
    before = load_config(AgentConfig).config
    after = load_config(AgentConfig, overrides={"log.level": "debug", "api.port": 1}).config
    assert [] == changed_keys(before, before)
    assert ["api.port", "log.level"] == changed_keys(before, after)
