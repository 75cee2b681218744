from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_agent.config import AgentConfig, ApiSection, listed
from edge_agent.startup import access_rules
from shared.config.layers import ConfigFile, read_config_files
from shared.config.rendering import example_toml
from shared.config.sections import load_config
from shared.config.words import description
from shared.daemon.local_requests import LOOPBACK_HOSTS
from shared.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "devices" / "agent.toml"
TOKEN = f"gsd_pi5-kitchen_{'s' * 43}"


def load(text: str) -> AgentConfig:
    return load_config(AgentConfig, [ConfigFile("agent.toml", text)]).config


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return caught.value.problems


def test_the_shipped_example_holds_the_defaults() -> None:
    assert AgentConfig() == load_config(AgentConfig, read_config_files(EXAMPLE)).config


def test_the_shipped_example_is_up_to_date() -> None:
    assert example_toml(AgentConfig) == EXAMPLE.read_text(encoding="utf-8")


def test_every_key_says_what_it_is_for() -> None:
    unexplained = [
        f"{section.name}.{field.name}"
        for section in msgspec.structs.fields(AgentConfig)
        for field in msgspec.structs.fields(section.type)
        if not description(field.type)
    ]
    assert [] == unexplained


@pytest.mark.parametrize(
    "url",
    [
        "ws://localhost",
        "ws://127.0.0.1:8443/device",
        "ws://[::1]:8443",
        "ws://192.168.1.7:8443",
        "ws://10.0.0.1",
        "ws://gpu.local",
        "ws://verifier:8443",  # of docker compose
        "ws://gpu1.tail1234.ts.net:8443",
        "wss://gpu1.example.org",
        "wss://203.0.114.1:443",
    ],
)
def test_plain_text_is_for_near_hosts_and_tls_for_all(url: str) -> None:
    assert url == load(f"verifier.url = '{url}'").verifier.url


@pytest.mark.parametrize("url", ["ws://gpu1.example.org", "ws://8.8.8.8:8443", "ws://gpu1.org"])
def test_plain_text_over_other_networks_needs_to_be_allowed(url: str) -> None:
    words = (
        "must be wss:// for a host that is not on a private network, unless "
        "verifier.allow_insecure = true"
    )
    assert (f'agent.toml:1: verifier.url = "{url}": {words}',) == problems_of(
        f"verifier.url = '{url}'"
    )
    assert url == load(f"verifier = {{ url = '{url}', allow_insecure = true }}").verifier.url


def test_a_verifier_that_is_looked_for_must_prove_that_it_is_the_right_one() -> None:
    words = "must be an address as long as neither verifier.pin nor verifier.ca_file proves"
    (problem,) = problems_of("verifier.url = 'mdns'")
    assert problem.startswith(f'agent.toml:1: verifier.url = "mdns": {words}')
    trusting = f"verifier = {{ url = 'mdns', pin = 'sha256//{'A' * 43}=' }}"
    assert "mdns" == load(trusting).verifier.url


@pytest.mark.parametrize(
    "url",
    [
        "http://gpu1",
        "ws:gpu1",
        "ws://",
        "wss://a b",
        "wss://a:99999",
        "wss://a:b",
        "wss://[::1",
        "wss://a:0",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    (problem,) = problems_of(f"verifier.url = '{url}'")
    assert problem.startswith(
        f'agent.toml:1: verifier.url = "{url}": must be ws:// or wss://, a host'
    )


def test_a_token_is_taken_as_it_was_printed() -> None:
    assert TOKEN == load(f"verifier.token = '{TOKEN}'").verifier.token


@pytest.mark.parametrize("token", ["", TOKEN[4:], TOKEN[:-1], TOKEN + "s", f"{TOKEN}\\n", "gsd__x"])
def test_a_token_that_lost_a_part_is_refused_and_not_shown(token: str) -> None:
    words = "must be a token as `goodspeed-verifier token add` prints it, gsd_…"
    assert (f"agent.toml:1: verifier.token: {words}",) == problems_of(f'verifier.token = "{token}"')


def test_there_is_one_place_for_the_token() -> None:
    text = f"verifier.token = '{TOKEN}'\nverifier.token_file = '/token'"
    words = 'verifier.token_file = "/token": must be left out when verifier.token is set'
    assert (f"agent.toml:2: {words}",) == problems_of(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "board.local"])
def test_the_network_gets_no_api_without_a_key(host: str) -> None:
    words = "must be a loopback address as long as api.token_file is not set"
    assert (f'agent.toml:1: api.host = "{host}": {words}',) == problems_of(f"api.host = '{host}'")
    assert host == load(f"api = {{ host = '{host}', token_file = '/key' }}").api.host


@pytest.mark.parametrize("host", ["127.0.0.2", "::1", "localhost"])
def test_this_host_needs_no_key(host: str) -> None:
    assert host == load(f"api.host = '{host}'").api.host


@pytest.mark.parametrize("model", ["", "smollm2-135m-instruct"])
def test_n_grams_draft_beside_a_model_or_alone(model: str) -> None:
    draft = load(f"draft.model = '{model}'").draft
    assert (model, 4) == (draft.model, draft.ngram_tokens)


def test_without_a_model_and_without_n_grams_nothing_drafts() -> None:
    words = "must be a name or a path as long as draft.ngram_tokens is 0"
    assert (f'agent.toml:1: draft.model = "": {words}',) == problems_of(
        "draft.model = ''\ndraft.ngram_tokens = 0"
    )


def test_one_token_is_no_n_gram() -> None:
    words = "must be 0, or from 2 to 8"
    assert (f"agent.toml:1: draft.ngram_tokens = 1: {words}",) == problems_of(
        "draft.ngram_tokens = 1"
    )


@pytest.mark.parametrize(
    "origins",
    ["", "https://chat.example", "null", "http://a.local:3000, https://b.example *.local", "desk"],
)
def test_origins_are_listed(origins: str) -> None:
    names = origins.replace(",", " ").split()
    assert set(names) == listed(load(f"api.allowed_origins = '{origins}'").api.allowed_origins)


@pytest.mark.parametrize(
    "origins", ["*", "https://*", "ftp://a.example", "https://a.example/", "https://A.example", ","]
)
def test_what_no_browser_says_is_no_origin(origins: str) -> None:
    words = "must be origins such as https://chat.example, or hosts such as *.local"
    key = "api.allowed_origins"
    assert (f'agent.toml:1: {key} = "{origins}": {words}',) == problems_of(f"{key} = '{origins}'")


@pytest.mark.parametrize("hosts", ["*", "http://a.example", "a.example:80", "[::1]"])
def test_a_host_is_a_name_alone(hosts: str) -> None:
    words = "must be names of hosts, such as board.example or *.local"
    key = "api.allowed_hosts"
    assert (f'agent.toml:1: {key} = "{hosts}": {words}',) == problems_of(f"{key} = '{hosts}'")


def test_with_a_key_any_name_will_do_unless_names_are_listed() -> None:
    assert access_rules(ApiSection(), "key").allowed_hosts is None
    assert LOOPBACK_HOSTS == access_rules(ApiSection(), None).allowed_hosts
    section = ApiSection(allowed_hosts="board.example, *.local")
    for key in ("key", None):
        assert access_rules(section, key).allowed_hosts == LOOPBACK_HOSTS | {
            "board.example",
            "*.local",
        }
