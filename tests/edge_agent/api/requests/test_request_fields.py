from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from openai.types.chat import completion_create_params as chat_params
from openai.types.completion_create_params import CompletionCreateParamsBase

from edge_agent.api.openai_request import read_chat_request, read_completion_request
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.request_fields import (
    HARMLESS,
    IGNORED_HEADER,
    MAX_IGNORED_NAMES,
    MAX_NAME_CHARACTERS,
    NOT_FOLLOWED,
    REFUSED,
    ignored_fields,
    ignored_header,
)
from shared.errors import RequestRefused

USER = {"role": "user", "content": "hi"}
CHAT_FIELDS = get_type_hints(chat_params.CompletionCreateParamsBase).keys() | {"stream"}
COMPLETION_FIELDS = get_type_hints(CompletionCreateParamsBase).keys() | {"stream"}


def test_each_field_stands_in_one_place() -> None:
    assert set() == HARMLESS & NOT_FOLLOWED
    assert set() == (HARMLESS | NOT_FOLLOWED) & REFUSED.keys()


def test_what_is_harmless_is_not_named_and_what_is_not_followed_is() -> None:
    fields = {"user": "x", "metadata": {}, "num_ctx": 4096, "magic": 1, "messages": []}
    assert ("num_ctx", "magic") == ignored_fields(fields, {"messages"})


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_the_answer_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        ignored_fields({name: ["something"]}, ())
    assert name == refused.value.field
    assert str(refused.value) == f"{name} = a list of 1: not supported; {REFUSED[name].advice}"
    assert REFUSED[name].advice


@pytest.mark.parametrize("name", REFUSED)
def test_null_and_the_values_that_ask_for_nothing_are_taken(name: str) -> None:
    for value in (None, *REFUSED[name].neutral):
        assert () == ignored_fields({name: value}, ())


@pytest.mark.parametrize(
    ("name", "value"), [("n", True), ("echo", 0), ("logprobs", 0), ("top_a", False)]
)
def test_a_boolean_is_no_number(name: str, value: object) -> None:
    with pytest.raises(RequestRefused):
        ignored_fields({name: value}, ())


def said_of(read: Callable[[dict[str, Any]], ClientRequest], fields: dict[str, Any]) -> set[str]:
    """The names in a refusal, or in the header."""
    try:
        return set(read(fields).ignored)
    except RequestRefused as refused:
        return {(refused.field or "").partition(".")[0]}


SILENT = HARMLESS | {"stream_options"}  # the latter's own fields are looked at, one by one


@pytest.mark.parametrize("name", sorted(CHAT_FIELDS - SILENT - {"messages"}))
def test_nonsense_in_a_field_of_openais_chat_is_never_passed_over(name: str) -> None:
    assert {name} == said_of(read_chat_request, {"messages": [USER], name: {"no": "sense"}})


@pytest.mark.parametrize("name", sorted(COMPLETION_FIELDS - SILENT - {"prompt"}))
def test_nonsense_in_a_field_of_openais_completions_is_never_passed_over(name: str) -> None:
    assert {name} == said_of(read_completion_request, {"prompt": "x", name: {"no": "sense"}})


def test_the_header_names_what_was_ignored() -> None:
    assert {} == ignored_header(())
    assert {IGNORED_HEADER: "magic, num_ctx"} == ignored_header(("magic", "num_ctx"))


def test_the_header_is_bounded_and_of_printable_ascii_whatever_the_names_are() -> None:
    names = [f"\r\nSet-Cookie: x={i}, é😀" + "y" * 1000 for i in range(1000)]
    fields = dict.fromkeys(names, 1)
    value = ignored_header(ignored_fields(fields, ()))[IGNORED_HEADER]
    assert value.isascii()
    assert value.isprintable()
    *shown, rest = value.split(", ")
    assert (MAX_IGNORED_NAMES, "...") == (len(shown), rest)
    assert max(map(len, shown)) <= MAX_NAME_CHARACTERS
