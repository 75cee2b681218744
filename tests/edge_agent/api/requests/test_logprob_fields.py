"""How many log-probabilities a client wants is read, and nonsense is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.api.openai_request import read_chat_request, read_completion_request
from edge_agent.api.requests.logprob_fields import (
    read_chat_logprobs,
    read_completion_logprobs,
    read_response_logprobs,
)
from edge_agent.api.responses.response_request import read_response_request
from shared.errors import RequestRefused

USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"logprobs": None, "top_logprobs": None}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20.0}, 20),
    ],
)
def test_a_chat_says_whether_and_of_how_many(fields: dict[str, Any], expected: int | None) -> None:
    assert expected == read_chat_logprobs(fields)
    asked = read_chat_request({"messages": [USER], **fields})
    assert (expected, ()) == (asked.generation.num_logprobs, asked.ignored)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, None), ({"logprobs": False}, None), ({"logprobs": 0}, 0), ({"logprobs": 5}, 5)],
)
def test_a_completion_says_of_how_many(fields: dict[str, Any], expected: int | None) -> None:
    assert expected == read_completion_logprobs(fields)
    asked = read_completion_request({"prompt": "x", **fields})
    assert (expected, ()) == (asked.generation.num_logprobs, asked.ignored)


OF_TEXT = ["message.output_text.logprobs"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"include": None, "top_logprobs": 0}, None),
        ({"include": ["reasoning.encrypted_content"]}, None),
        ({"include": OF_TEXT}, 0),
        ({"include": OF_TEXT, "top_logprobs": 5}, 5),
    ],
)
def test_a_response_includes_them(fields: dict[str, Any], expected: int | None) -> None:
    assert expected == read_response_logprobs(fields)
    asked = read_response_request({"input": "hi", **fields})
    assert (expected, ()) == (asked.generation.num_logprobs, asked.ignored)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"include": [*OF_TEXT, "file_search_call.results"]}, "include[1]"),
        ({"include": [5]}, "include[0]"),
        ({"include": OF_TEXT[0]}, "include"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": OF_TEXT, "top_logprobs": 21}, "top_logprobs"),
    ],
)
def test_nonsense_in_a_response_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_response_logprobs(fields)
    assert field == refused.value.field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": 1}, "logprobs"),
    ],
)
def test_nonsense_in_a_chat_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_chat_logprobs(fields)
    assert field == refused.value.field


@pytest.mark.parametrize("value", [True, -1, 21, 1.5, "all"])
def test_nonsense_in_a_completion_is_refused_by_name(value: object) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_completion_logprobs({"logprobs": value})
    assert "logprobs" == refused.value.field
