from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_agent.config import AgentConfig
from shared.config.layers import ConfigFile
from shared.config.rendering import effective_toml, example_toml, json_schema
from shared.config.sections import Section, load_config
from shared.config.words import SECRET
from verifier.config import VerifierConfig


class DraftSection(Section, frozen=True):
    """The draft model."""

    threads: Annotated[int, Meta(description="for drafting")] = 4
    cache: Annotated[Path | None, Meta(description="where it is kept")] = None
    key: Annotated[str, Meta(description="a secret", extra=SECRET)] = "pst"


class Config(msgspec.Struct, frozen=True):
    draft: DraftSection = DraftSection()


def test_the_example_explains_every_key_and_hides_secrets() -> None:
    expected = """\
# The draft model.
[draft]
# for drafting
threads = 4
# where it is kept
# cache =
# a secret
key = "…"
"""
    assert example_toml(Config).endswith(f"\n\n{expected}")


def test_every_value_in_force_is_shown_with_its_place_but_no_secret() -> None:
    file = ConfigFile("a.toml", "[draft]\ncache = '/b'\nkey = 'other'")
    expected = """\
# The draft model.
[draft]
threads = 4  # default
cache = "/b"  # a.toml:2
key = "…"  # a.toml:3
"""
    assert expected == effective_toml(load_config(Config, [file]))


def test_values_are_shown_without_their_places_for_another_file() -> None:
    loaded = load_config(Config, [ConfigFile("a.toml", "[draft]\nthreads = 8")])
    assert "threads = 8\n" in effective_toml(loaded, with_origins=False)


def test_the_schema_knows_every_key_with_its_limits_and_no_other() -> None:
    schema = json_schema(AgentConfig)
    assert isinstance(schema["properties"], dict)
    draft = schema["properties"]["draft"]
    assert not draft["additionalProperties"]
    assert {"minimum": 1, "maximum": 64, "default": 4} == {
        key: draft["properties"]["max_streams"][key] for key in ("minimum", "maximum", "default")
    }
    assert set(AgentConfig.__struct_fields__) == schema["properties"].keys()
    verifier = json_schema(VerifierConfig)
    assert isinstance(verifier["properties"], dict)
    tokens_file = verifier["properties"]["server"]["properties"]["tokens_file"]
    assert "string" == tokens_file["type"]
    assert "/etc/goodspeed/credentials/tokens" == tokens_file["default"]
    json.dumps(verifier)
