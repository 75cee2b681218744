"""What the rules let a target write in Gemma's form, a board reads as arguments of the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.output_parsing.control_marks import control_text
from edge_agent.output_parsing.gemma_reader import GemmaReader
from shared.protocol.grammar import Grammar
from tests.verifier.chat_template.test_forced_call import Bytes
from verifier.chat_template.gemma_values import gemma_values
from verifier.grammar.grammars import Grammars
from verifier.target.token_masks import allowed_tokens

QUOTE = b'<|"|>'
OBJECT = {"type": "object"}


class Quoting(Bytes):
    """Bytes, an end, and the control tokens of a call."""

    def __init__(self) -> None:
        super().__init__()
        self.token_bytes = (*self.token_bytes[:257], QUOTE)
        self.special_ids = frozenset({256, 257})


@pytest.fixture(scope="module")
def grammars() -> Iterator[Grammars]:
    with closing(Grammars(Quoting(), 258)) as made:
        made.begin(Grammar("regex", "a"), lambda: None)  # its threads and process are there
        yield made


def grammar_of(schema: dict[str, Any]) -> Grammar | None:
    lines = gemma_values("start", schema, "<[257]>")
    return None if lines is None else Grammar("lark", "\n".join(lines), "tool_choice")


def allows(grammars: Grammars, schema: dict[str, Any], text: str) -> bool:
    grammar = grammar_of(schema)
    assert grammar is not None, "it can be said"
    parts = text.split("|")
    ids = [i for part in parts for i in (257, *part.encode())][1:]
    return grammars.begin(grammar, lambda: None).begin_behind([*ids, 256])


def read(written: str) -> Any:
    reader = GemmaReader()
    marks = (control_text(name.encode()) for name in ("<|tool_call>", "<tool_call|>"))
    opening, closing_ = marks
    said = [*reader.feed(f"{opening}call:f{written}{closing_}"), *reader.close()]
    assert ["call", "arguments"] == [part for part, _ in said], written
    return json.loads(said[1].text)


CITY = {
    "properties": {"city": {"type": "string", "maxLength": 5}, "Days": {"type": "integer"}},
    "required": ["city"],
}


@pytest.mark.parametrize(
    ("schema", "text", "is_allowed"),
    [
        (CITY, "{city:|Rome|}", True),
        (CITY, "{city:||}", True),
        (CITY, "{city:|Rome|,Days:3}", True),
        (CITY, "{city:|Rome|,Days:-12}", True),
        (CITY, "{Days:3,city:|Rome|}", False),
        (CITY, "{city:|Rome|, Days:3}", False),
        (CITY, "{city:|London|}", False),
        (CITY, "{city:Rome}", False),
        (CITY, "{Days:3}", False),
        (CITY, "{city:|Rome|,Days:3.5}", False),
        (CITY, "{city:|Rome|,more:1}", False),
        (CITY | {"additionalProperties": True}, "{city:|Rome|,more:{a:[1,null]}}", True),
        (CITY | {"additionalProperties": True}, "{city:|Rome|,Days:|x|}", False),
        (CITY | {"additionalProperties": {"type": "null"}}, "{city:|Rome|,a:null,b:null}", True),
        (OBJECT, "{}", True),
        (OBJECT, "{a:|b|,c:[{d:true}]}", True),
        (OBJECT | {"maxProperties": 0}, "{}", True),
        (OBJECT | {"maxProperties": 0}, "{a:1}", False),
        ({"properties": {"a": {"enum": ["x", 1, None, [2]]}}}, "{a:|x|}", True),
        ({"properties": {"a": {"enum": ["x", 1, None, [2]]}}}, "{a:[2]}", True),
        ({"properties": {"a": {"enum": ["x", 1, None, [2]]}}}, "{}", True),
        ({"properties": {"a": {"enum": ["x", 1]}}}, "{a:x}", False),
        ({"properties": {"a": {"type": ["string", "null"], "minLength": 2}}}, "{a:null}", True),
        ({"properties": {"a": {"type": ["string", "null"], "minLength": 2}}}, "{a:|x|}", False),
        ({"properties": {"a": {"anyOf": [{"type": "integer"}, {"const": "b"}]}}}, "{a:|b|}", True),
        ({"properties": {"a": {"type": "array", "minItems": 2, "maxItems": 3}}}, "{a:[1]}", False),
        ({"properties": {"a": {"type": "array", "minItems": 2}}}, "{a:[1,|x|,{}]}", True),
        ({"properties": {"a b": {"const": True}}}, "{|a b|:true}", True),
        (
            {
                "properties": {"n": {"$ref": "#/$defs/n"}},
                "$defs": {"n": {"properties": {"n": {"$ref": "#/$defs/n"}}}},
            },
            "{n:{n:{n:{}}}}",
            True,
        ),
    ],
    ids=str,
)
def test_only_values_of_the_schema_in_the_templates_own_form_are_allowed(
    grammars: Grammars, schema: dict[str, Any], text: str, is_allowed: bool
) -> None:
    assert is_allowed == allows(grammars, schema, text)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"type": "string", "pattern": "^b$"}}},
        {"properties": {"a": {"type": "string", "format": "date"}}},
        {"properties": {"a": {"oneOf": [{"type": "integer"}]}}},
        {"properties": {"a": {"type": "nope"}}},
        {"properties": {"a": {"type": "string", "minLength": 3, "maxLength": 2}}},
        {"properties": {"a": {"enum": ["b"], "type": "integer"}}},
        {"properties": {"a": {"const": 'b<|"|>'}}},
        {"properties": {"a": {"$ref": "#/$defs/no"}}},
        {"properties": {"a": {"$ref": "http://elsewhere/#/a"}}},
        {"properties": {"a": False}},
        {"minProperties": 2},
        {"patternProperties": {"a": {}}},
    ],
    ids=str,
)
def test_what_the_rules_cannot_say_is_told(schema: dict[str, Any]) -> None:
    assert grammar_of(schema) is None


def test_schemas_within_schemas_without_end_are_told() -> None:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(5000):
        schema = {"properties": {"a": schema}}
    assert grammar_of(schema) is None


def test_what_a_string_spells_is_never_taken_for_its_end(grammars: Grammars) -> None:
    schema = {"properties": {"a": {"type": "string"}}, "required": ["a"]}
    grammar = grammar_of(schema)
    assert grammar is not None
    for text in ('<|"', "<|tool_call>", "a|>}", "<tool_call>"):
        ids = [*b"{a:", 257, *text.encode(), 257, *b"}", 256]
        assert grammars.begin(grammar, lambda: None).begin_behind(ids), text
        assert {"a": text} == read(f"{{a:{control_text(QUOTE)}{text}{control_text(QUOTE)}}}")
    for text in ('a<|"|>', "<tool_call|>b"):
        ids = [*b"{a:", 257, *text.encode()]
        assert not grammars.begin(grammar, lambda: None).begin_behind(ids), text


def is_of(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value satisfies a schema of those that are drawn below."""
    if "const" in schema:
        return bool(value == schema["const"])
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(is_of(value, each) for each in schema["anyOf"])
    kinds = schema.get("type", "any")
    match value:
        case bool() | None:
            return kinds in ("any", ["boolean", "null"])
        case str():
            return kinds == "any" or (
                kinds == "string"
                and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1e9)
            )
        case int() | float():
            is_whole = isinstance(value, int)
            return kinds in ("any", "number") or (
                kinds == "integer" and is_whole and schema["minimum"] <= value <= schema["maximum"]
            )
        case list():
            return kinds == "any" or (
                kinds == "array"
                and len(value) <= schema["maxItems"]
                and all(is_of(each, schema["items"]) for each in value)
            )
    known = schema.get("properties", {})
    others = value.keys() - known.keys()
    return kinds == "any" or (
        kinds == "object"
        and set(schema["required"]) <= value.keys()
        and all(is_of(value[key], known[key]) for key in value.keys() & known.keys())
        and (schema.get("additionalProperties", True) or not others)
    )


LEAVES = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "minLength": 1, "maxLength": 3},
        {"type": "integer", "minimum": -3, "maximum": 12},
        {"type": "number"},
        {"type": ["boolean", "null"]},
        {"enum": ["a", "b c", 'd"{', 7, -1.5, None, True, ["x", {"y": ""}]]},
        {"const": "only"},
        {},
    ]
)
NAMES = st.sampled_from(["a", "B", "c_1", "d-e", "f g", "a:b", "é"])


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda properties, required, extra: {
            "type": "object",
            "properties": properties,
            "required": sorted(required & properties.keys()),
            **extra,
        },
        st.dictionaries(NAMES, values, max_size=4),
        st.sets(NAMES),
        st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": True}]),
    )


VALUES = st.recursive(
    LEAVES,
    lambda values: st.one_of(
        objects(values),
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 3}, values),
        st.builds(lambda schemas: {"anyOf": schemas}, st.lists(values, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


@settings(max_examples=25, deadline=None)
@given(objects(VALUES), st.integers(0, 1000))
def test_whatever_a_target_writes_is_read_as_arguments_of_the_schema(
    grammars: Grammars, schema: dict[str, Any], seed: int
) -> None:
    grammar = grammar_of(schema)
    assert grammar is not None
    draws = np.random.default_rng(seed)
    held = grammars.begin(grammar, lambda: None)._state
    ids: list[int] = []
    for _ in range(150):
        allowed = np.flatnonzero(allowed_tokens(held.masks(()), 258)[0])
        # What closes a value is likely, else texts and lists would not end.
        closing_ids = [i for i in allowed if i in (256, 257, *b"}]")]
        choices = closing_ids if closing_ids and draws.random() < 0.5 else allowed
        token_id = int(draws.choice(choices))
        if token_id == 256:
            break
        ids.append(token_id)
        assert held.consume((token_id,))
    else:
        return
    pieces = b"".join(
        "\ue000".encode() if token_id == 257 else bytes([token_id]) for token_id in ids
    )
    written = pieces.decode().replace("\ue000", control_text(QUOTE))
    assert is_of(read(written), schema), written
