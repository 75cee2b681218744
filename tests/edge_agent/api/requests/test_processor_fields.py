"""Penalties, biases and ends are read in every dialect's words, and refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.api.anthropic.message_request import read_message_request
from edge_agent.api.ollama.ollama_request import read_ollama_chat, read_ollama_generate
from edge_agent.api.openai_request import read_chat_request, read_completion_request
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.processor_fields import (
    PROCESSOR_FIELDS,
    processors_left_open,
    read_processors,
)
from edge_agent.api.requests.request_fields import HARMLESS, NOT_FOLLOWED, REFUSED
from edge_agent.api.responses.response_request import read_response_request
from shared.errors import RequestRefused
from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors

USER = {"role": "user", "content": "hi"}
Read = Callable[[dict[str, Any]], ClientRequest]
DIALECTS: dict[str, Read] = {
    "chat": lambda fields: read_chat_request({"messages": [USER], **fields}),
    "completion": lambda fields: read_completion_request({"prompt": "x", **fields}),
    "responses": lambda fields: read_response_request({"input": "x", **fields}),
    "anthropic": lambda fields: read_message_request({"messages": [USER], **fields}),
    "ollama chat": lambda fields: read_ollama_chat({"messages": [USER], "options": fields}),
    "ollama generate": lambda fields: read_ollama_generate({"prompt": "x", "options": fields}),
}

ASKED: list[tuple[dict[str, Any], LogitProcessors]] = [
    ({"frequency_penalty": 1, "presence_penalty": -0.5}, LogitProcessors(1.0, -0.5)),
    ({"repetition_penalty": 1.2}, LogitProcessors(repetition_penalty=1.2)),
    ({"repeat_penalty": 1.1, "repeat_last_n": -1}, LogitProcessors(repetition_penalty=1.1)),
    ({"repeat_penalty": 1.1, "repetition_penalty": 1.1}, LogitProcessors(repetition_penalty=1.1)),
    ({"logit_bias": {"5": -100, "17": 2.5}}, LogitProcessors(logit_bias=((5, -100.0), (17, 2.5)))),
    ({"logit_bias": [[5, 1], [6, False]]}, LogitProcessors(logit_bias=((5, 1.0), (6, -100.0)))),
    ({"min_p": 0.05}, LogitProcessors(min_p=0.05)),
    ({"min_tokens": 6.0, "ignore_eos": True}, LogitProcessors(min_tokens=6, ignore_eos=True)),
    ({"stop_token_ids": [3, 9]}, LogitProcessors(stop_token_ids=(3, 9))),
]
OFF: list[dict[str, Any]] = [
    dict.fromkeys(PROCESSOR_FIELDS),
    {"frequency_penalty": 0, "presence_penalty": 0.0, "repetition_penalty": 1},
    {"repeat_penalty": 0, "repeat_last_n": 64, "min_p": 0, "min_tokens": 0},
    {"repeat_penalty": 1.3, "frequency_penalty": 1, "repeat_last_n": 0},
    {"logit_bias": {}, "stop_token_ids": [], "ignore_eos": False},
    {"logit_bias": []},
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("fields", "expected"), ASKED)
def test_every_dialect_honours_them(
    dialect: str, fields: dict[str, Any], expected: LogitProcessors
) -> None:
    asked = DIALECTS[dialect](fields)
    assert (expected, ()) == (asked.generation.processors, asked.ignored)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fields", OFF)
def test_what_is_off_asks_for_nothing(dialect: str, fields: dict[str, Any]) -> None:
    asked = DIALECTS[dialect](fields)
    assert (NO_PROCESSORS, ()) == (asked.generation.processors, asked.ignored)


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"frequency_penalty": 2.1}, "frequency_penalty", "frequency_penalty = 2.1: expected"),
        ({"presence_penalty": -1e308}, "presence_penalty", "= -1e+308: expected number >= -2.0"),
        ({"presence_penalty": "a"}, "presence_penalty", "expected number, got string"),
        ({"repetition_penalty": 0}, "repetition_penalty", "expected number >= 0.01"),
        ({"repeat_penalty": -1}, "repeat_penalty", "repeat_penalty = -1: expected number >= 0.01"),
        (
            {"repeat_penalty": 1.1, "repetition_penalty": 1.2},
            "repeat_penalty",
            "repeat_penalty and repetition_penalty are one: send one of them",
        ),
        (
            {"repeat_penalty": 1.1, "repeat_last_n": 64},
            "repeat_last_n",
            "repeat_last_n = 64: penalties look at all tokens; send -1",
        ),
        ({"presence_penalty": 1, "penalty_last_n": 9}, "penalty_last_n", "send -1"),
        ({"min_p": False}, "min_p", "min_p = false: expected number, got boolean"),
        ({"min_p": 1.5}, "min_p", "expected number <= 1.0"),
        ({"min_tokens": -1}, "min_tokens", "expected integer >= 0"),
        ({"ignore_eos": 1}, "ignore_eos", "expected boolean, got integer"),
        ({"stop_token_ids": [1, -2]}, "stop_token_ids[1]", "expected integer >= 0"),
        ({"stop_token_ids": list(range(129))}, "stop_token_ids", "array of length <= 128"),
        ({"logit_bias": 5}, "logit_bias", "must be an object of token ids, not a number"),
        ({"logit_bias": {"hello": 1}}, "logit_bias", "the key 'hello', which is no token id"),
        ({"logit_bias": {"-1": 1}}, "logit_bias", "the key '-1', which is no token id"),
        ({"logit_bias": {"9" * 30: 1}}, "logit_bias", "which is no token id"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias.99999999", "needs a token id"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "= 101: needs a token id, and a number of"),
        ({"logit_bias": {"5": True}}, "logit_bias.5", "= true: needs a token id, and a number of"),
        ({"logit_bias": {"5": 1, "05": 2}}, "logit_bias", "logit_bias names token 5 twice"),
        ({"logit_bias": [["hello", 1]]}, "logit_bias[0]", "must be a pair of token id and bias"),
        ({"logit_bias": [[1, 2, 3]]}, "logit_bias[0]", "must be a pair of token id and bias"),
        (
            {"logit_bias": {str(i): 1 for i in range(10_000)}},
            "logit_bias",
            "logit_bias of 10000 tokens: at most 1024",
        ),
    ],
)
def test_what_is_no_value_is_refused_by_name(
    fields: dict[str, Any], field: str, sentence: str
) -> None:
    for read in (DIALECTS["chat"], DIALECTS["anthropic"]):
        with pytest.raises(RequestRefused) as refused:
            read(fields)
        assert (field, True) == (refused.value.field, sentence in str(refused.value))
    with pytest.raises(RequestRefused) as refused:
        DIALECTS["ollama chat"](fields)
    assert f"options.{field}" == refused.value.field


def test_more_tokens_at_least_than_at_most_are_refused() -> None:
    for dialect, limit in (("chat", "max_tokens"), ("ollama chat", "num_predict")):
        with pytest.raises(RequestRefused, match="min_tokens = 9 exceed 8, the most"):
            DIALECTS[dialect]({"min_tokens": 9, limit: 8})
        assert 8 == DIALECTS[dialect]({"min_tokens": 8, limit: 8}).generation.max_tokens


def test_no_field_stands_in_two_places() -> None:
    assert not PROCESSOR_FIELDS & {*REFUSED, *HARMLESS, *NOT_FOLLOWED}


numbers = st.floats() | st.integers() | st.sampled_from([1e308, math.inf, math.nan, 0, -0.0])
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda some: (
        st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=3), some, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(PROCESSOR_FIELDS)), json_values, max_size=4))
def test_whatever_is_sent_is_refused_by_name_or_fits_the_protocol(fields: dict[str, Any]) -> None:
    processors, refused_field = NO_PROCESSORS, next(iter(fields), "")
    try:
        processors = read_processors(fields)
    except RequestRefused as refused:
        refused_field = (refused.field or "").partition("[")[0].partition(".")[0]
    assert not fields or refused_field in fields
    packed = msgspec.msgpack.encode(processors)
    assert processors == msgspec.msgpack.decode(packed, type=LogitProcessors)


@pytest.mark.parametrize(
    ("fields", "left_open"),
    [
        ({}, ("min_p", "repetition_penalty")),
        ({"min_p": None, "repeat_penalty": None}, ("min_p", "repetition_penalty")),
        ({"min_p": 0}, ("repetition_penalty",)),
        ({"repetition_penalty": 1.0}, ("min_p",)),
        ({"repeat_penalty": 0}, ("min_p",)),
        ({"repeat_last_n": 0}, ("min_p",)),
        ({"repeat_last_n": -1}, ("min_p", "repetition_penalty")),
        ({"min_p": 0.1, "repeat_penalty": 1.1}, ()),
    ],
)
def test_what_a_client_is_silent_about_is_the_models(
    fields: dict[str, Any], left_open: tuple[str, ...]
) -> None:
    read_processors(fields)
    assert left_open == processors_left_open(fields)
