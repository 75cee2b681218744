"""Whatever a grammar is, the verifier gets it in one form or a reason, in bounded time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from shared.daemon.resources.bounded_process import BoundedProcess
from verifier.grammar.grammars import PROGRAM


@pytest.fixture(scope="module")
def process() -> Iterator[BoundedProcess]:
    process = BoundedProcess(PROGRAM)
    answer_of(process, "json_object", "")
    yield process
    process.close()


def answer_of(process: BoundedProcess, kind: str, text: str) -> dict[str, str] | str:
    answer = process.answer(json.dumps({"kind": kind, "text": text}).encode() + b"\n")
    if isinstance(answer, str):
        return answer
    read: dict[str, str] = json.loads(answer)
    return read


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


ENDLESS = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
DEAD_END = {
    "x-guidance": {"whitespace_flexible": False},
    "type": "object",
    "properties": {"a": {"$ref": "#/properties/a"}},
    "required": ["a"],
}
RECURSIVE = {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json_object", ""),
        ("json_schema", "{}"),
        ("json_schema", "true"),
        ("json_schema", json.dumps(nested(30))),
        ("json_schema", json.dumps(RECURSIVE)),
        ("json_schema", json.dumps({"enum": [str(i) for i in range(5000)]})),
        ("json_schema", json.dumps({"type": "string", "maxLength": 4_000_000_000})),
        ("regex", "^a+$"),
        ("regex", "((a{1,30000}){1,30000}){1,30000}"),
        ("gbnf", 'root ::= "a" [b-z]+ | ws\nws ::= [ \\t]*\n'),
        ("gbnf", 'start: "a" | "b"'),
        ("lark", 'start: %json {"type": "object"}'),
        ("lark", "start: s\ns: s s | /a/ | s s s"),
    ],
)
def test_what_is_a_grammar_comes_back_in_one_form(
    process: BoundedProcess, kind: str, text: str
) -> None:
    answer = answer_of(process, kind, text)
    assert isinstance(answer, dict)
    assert {"grammar"} == answer.keys(), answer


def test_a_reason_shows_no_lines_of_a_grammar_that_the_verifier_wrote(
    process: BoundedProcess,
) -> None:
    text = 'start: call\ncall: "secret" given\ngiven: %json {"type": "nope"}\nmore: "x"'
    answer = answer_of(process, "lark", text)
    assert isinstance(answer, dict)
    assert "at 3(8): failed to compile JSON schema: Invalid type: nope" == answer["reason"]


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("json_schema", "{", "Expecting property name"),
        ("json_schema", "5", "a schema must be an object"),
        ("json_schema", "false", "a schema must be an object"),
        ("json_schema", '{"type": "nope"}', "Invalid type: nope"),
        ("json_schema", json.dumps(DEAD_END), "no text can satisfy it"),
        ("lark", f'start: "call " %json {json.dumps(DEAD_END)}', "no text can satisfy it"),
        ("json_schema", '{"enum": []}', "Unsatisfiable schema"),
        ("json_schema", '{"allOf": [{"type": "string"}, {"type": "null"}]}', "incompatible types"),
        ("json_schema", '{"minimum": 5, "maximum": 3, "type": "integer"}', "Unsatisfiable schema"),
        ("json_schema", '{"$ref": "#"}', "no text can satisfy it"),
        ("json_schema", json.dumps(ENDLESS), "a text that never ends"),
        ("lark", 'start: "a" start', "a text that never ends"),
        ("json_schema", '{"$ref": "http://localhost/x.json"}', "does not fetch resources"),
        ("json_schema", '{"unevaluatedProperties": false}', "Unimplemented keys"),
        ("json_schema", json.dumps(nested(300)), "recursion limit exceeded"),
        ("json_schema", '{"not":' * 5000 + "{}" + "}" * 5000, "nested too deeply"),
        ("regex", "((", "unclosed group"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", "(" * 20_000 + "a" + ")" * 20_000, "invalid regex"),
        ("gbnf", "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000, "nested too deeply"),
        ("lark", "start: missing", 'unknown name: "missing"'),
        ("lark", "start: " + "(" * 20_000 + '"a"' + ")" * 20_000, "too deeply nested"),
        ("lark", "", "Empty grammar"),
    ],
)
def test_what_is_none_comes_back_as_a_short_reason(
    process: BoundedProcess, kind: str, text: str, words: str
) -> None:
    answer = answer_of(process, kind, text)
    assert isinstance(answer, dict)
    assert words in answer["reason"]
    assert len(answer["reason"]) <= 300
    assert answer["reason"].isprintable()


def test_one_that_takes_too_long_ends_its_process_and_the_next_is_read() -> None:
    text = json.dumps({"type": "integer", "multipleOf": 9_999_991})
    with closing(BoundedProcess(PROGRAM)) as process:
        assert "it takes too long" == answer_of(process, "json_schema", text)
        assert {"grammar"} == answer_of(process, "regex", "a").keys()  # type: ignore[union-attr]
