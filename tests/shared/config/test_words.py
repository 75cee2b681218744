from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from shared.config.words import (
    SECRET,
    description,
    did_you_mean,
    is_secret,
    must_be,
    requirement,
    shown,
)

Threads = Annotated[int, Meta(ge=1)]
Policy = Literal["fixed", "greedy", "random"]


@pytest.mark.parametrize(
    ("field_type", "value", "words"),
    [
        (Threads, 0, "at least 1"),
        (Threads, True, "a whole number, at least 1"),
        (Threads, "4", "a whole number, at least 1"),
        (Annotated[int, Meta(le=9)], 10, "at most 9"),
        (Annotated[int, Meta(ge=1, le=1 << 20)], 0, "from 1 to 1048576"),
        (int, 1.5, "a whole number"),
        (Annotated[float, Meta(ge=0.0, le=1.0)], 2, "from 0 to 1"),
        (Annotated[float, Meta(ge=0.5)], 0, "at least 0.5"),
        (float, "x", "a number"),
        (bool, 1, "true or false"),
        (str, 1, "text in quotes"),
        (Annotated[str, Meta(min_length=1)], "", "text that is not empty"),
        (Annotated[str, Meta(min_length=3)], "ab", "a longer text"),
        (Path | None, 1, "a path in quotes"),
        (Threads | Literal["auto"], 0, "at least 1 or auto"),
        (Policy, "gredy", "fixed, greedy or random (did you mean greedy?)"),
        (Policy, "?", "fixed, greedy or random"),
        (Annotated[str, Meta(pattern="^x", extra=must_be("like x"))], "y", "like x"),
    ],
)
def test_a_type_says_what_its_values_must_be(field_type: object, value: object, words: str) -> None:
    assert words == requirement(field_type, value)


def test_a_type_that_no_setting_has_is_our_mistake() -> None:
    with pytest.raises(TypeError, match="no words"):
        requirement(set[int], 1)


def test_a_secret_is_known_behind_none_and_notes() -> None:
    secret = Annotated[Annotated[str, Meta(extra=SECRET)] | None, Meta(description="a key")]
    assert is_secret(secret)
    assert not is_secret(Annotated[str | None, Meta(extra=must_be("short"))])


def test_a_description_is_read_from_the_type() -> None:
    assert "a key" == description(Annotated[str, Meta(description="a key")])
    assert "" == description(str)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4, "4"),
        (0.5, "0.5"),
        (True, "true"),
        ('a"b', '"a\\"b"'),
        ("…", '"…"'),
        (Path("/a"), '"/a"'),
    ],
)
def test_values_are_shown_as_toml(value: object, text: str) -> None:
    assert text == shown(value)


def test_only_a_name_that_is_alike_is_suggested() -> None:
    assert "threads" == did_you_mean("thread", ["model", "threads"])
    assert None is did_you_mean("colour", ["model", "threads"])
