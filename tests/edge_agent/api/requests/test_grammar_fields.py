from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge_agent.api.anthropic.message_request import read_message_request
from edge_agent.api.ollama.ollama_request import read_ollama_chat, read_ollama_generate
from edge_agent.api.openai_request import read_chat_request, read_completion_request
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.grammar_fields import MAX_CHOICES, read_grammar
from edge_agent.api.responses.response_request import read_response_request
from shared.errors import RequestRefused
from shared.protocol.grammar import MAX_GRAMMAR_BYTES, Grammar

SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}
TEXT = '{"type":"object","properties":{"b":{},"a":{}}}'  # the order of properties is the answer's
NAMED = {"name": "x", "strict": True, "schema": SCHEMA}
CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def schema(field: str) -> Grammar:
    return Grammar("json_schema", TEXT, field)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": None}, None),
        ({"response_format": {"type": "text"}}, None),
        (
            {"response_format": {"type": "json_object"}},
            Grammar("json_object", field="response_format"),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": NAMED}},
            schema("response_format.json_schema.schema"),
        ),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            schema("response_format.schema"),
        ),
        ({"output_format": {"type": "json_schema", **NAMED}}, schema("output_format.schema")),
        ({"guided_json": SCHEMA}, schema("guided_json")),
        ({"guided_json": {}}, None),
        ({"json_schema": TEXT}, schema("json_schema")),
        ({"guided_regex": "a+"}, Grammar("regex", "a+", "guided_regex")),
        ({"guided_regex": ""}, None),
        ({"regex": "a+"}, Grammar("regex", "a+", "regex")),
        (
            {"guided_choice": ['say "é"', "b"]},
            Grammar("lark", 'start: "say \\"é\\"" | "b"', "guided_choice"),
        ),
        ({"guided_choice": []}, None),
        ({"guided_grammar": 'root ::= "a"'}, Grammar("gbnf", 'root ::= "a"', "guided_grammar")),
        ({"grammar": 'root ::= "a"'}, Grammar("gbnf", 'root ::= "a"', "grammar")),
        ({"ebnf": 'root ::= "a"'}, Grammar("gbnf", 'root ::= "a"', "ebnf")),
        ({"structured_outputs": {}}, None),
        ({"structured_outputs": {"json": SCHEMA}}, schema("structured_outputs.json")),
        (
            {"structured_outputs": {"json": None, "json_object": True}},
            Grammar("json_object", field="structured_outputs.json_object"),
        ),
        (
            {"structured_outputs": {"regex": "a"}},
            Grammar("regex", "a", "structured_outputs.regex"),
        ),
    ],
)
def test_all_dialects_ways_to_ask_for_a_form_are_read(
    fields: dict[str, Any], expected: Grammar | None
) -> None:
    assert expected == read_grammar(fields)
    assert expected == read_chat_request({**CHAT, **fields}).generation.grammar
    assert () == read_chat_request({**CHAT, **fields}).ignored


@pytest.mark.parametrize(
    ("fields", "sentence", "field"),
    [
        (
            {"response_format": {"type": "yaml"}},
            "response_format.type = 'yaml': must be one of text, json_object, json_schema",
            "response_format.type",
        ),
        (
            {"response_format": 5},
            "response_format = 5: expected object, got integer",
            "response_format",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema is missing",
            "response_format.json_schema.schema",
        ),
        ({"guided_json": 5}, "guided_json must be a JSON schema, not a number", "guided_json"),
        ({"grammar": ["x"]}, "grammar must be a string, not a list of 1", "grammar"),
        (
            {"regex": "a" * (MAX_GRAMMAR_BYTES + 1)},
            f"regex of {MAX_GRAMMAR_BYTES + 1} bytes exceeds {MAX_GRAMMAR_BYTES}",
            "regex",
        ),
        (
            {"guided_choice": ["a"] * (MAX_CHOICES + 1)},
            f"guided_choice of {MAX_CHOICES + 1} texts exceeds {MAX_CHOICES}",
            "guided_choice",
        ),
        (
            {"guided_choice": ["a", 5]},
            "guided_choice[1] = 5: expected string, got integer",
            "guided_choice[1]",
        ),
        (
            {"structured_outputs": {"structural_tag": "x"}},
            "structured_outputs.structural_tag is not supported: "
            "send one of json, regex, choice, grammar, json_object",
            "structured_outputs.structural_tag",
        ),
        (
            {"structured_outputs": {"json": {}, "regex": "a"}},
            "structured_outputs must say one thing, not 2",
            "structured_outputs",
        ),
        (
            {"response_format": {"type": "json_object"}, "grammar": 'root ::= "a"'},
            "response_format and grammar both say what the answer must be: send one of them",
            "grammar",
        ),
    ],
)
def test_what_is_no_form_is_refused_by_name(
    fields: dict[str, Any], sentence: str, field: str
) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_grammar(fields)
    assert (sentence, field) == (str(refused.value), refused.value.field)


@pytest.mark.parametrize(
    ("read", "fields", "field"),
    [
        (read_completion_request, {"prompt": "x", "json_schema": SCHEMA}, "json_schema"),
        (read_ollama_chat, {**CHAT, "format": SCHEMA}, "format"),
        (read_ollama_generate, {"prompt": "x", "format": SCHEMA}, "format"),
        (
            read_response_request,
            {"input": "x", "text": {"format": {"type": "json_schema", **NAMED}}},
            "text.format.schema",
        ),
        (
            read_message_request,
            {**CHAT, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            "output_config.format.schema",
        ),
    ],
)
def test_each_endpoint_takes_a_schema_in_its_own_words(
    read: Callable[[dict[str, Any]], ClientRequest], fields: dict[str, Any], field: str
) -> None:
    asked = read(fields)
    assert (schema(field), ()) == (asked.generation.grammar, asked.ignored)


def test_ollamas_word_json_is_any_object_and_nothing_is_any_text() -> None:
    for said, expected in (("json", Grammar("json_object", field="format")), ("", None)):
        assert expected == read_ollama_chat({**CHAT, "format": said}).generation.grammar
