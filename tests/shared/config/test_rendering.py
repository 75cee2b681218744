from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.config.layers import ConfigFile
from shared.config.rendering import effective_toml, example_toml
from shared.config.sections import Section, load_config
from shared.config.words import SECRET


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
