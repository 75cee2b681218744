"""Rules of Lark for the arguments of a call in Gemma's form, of a JSON schema. Pure.

Keys are bare, strings stand between control tokens, and no space is written; properties come in the
order in which Gemma's template sorts them. What may be written is always of the schema; not all
that is of it may be: properties that it does not name come only where it says that they may.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_ANNOTATIONS = frozenset(
    (
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("strict", "$schema", "$id", "$comment", "$defs", "definitions", "x-guidance"),
    )
)
_OF_NUMBERS = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
_OF_STRINGS = frozenset({"minLength", "maxLength"})
_OF_ARRAYS = frozenset({"items", "minItems", "maxItems"})
_OF_OBJECTS = frozenset({"properties", "required", "additionalProperties", "maxProperties"})
_KNOWN = _OF_NUMBERS | _OF_STRINGS | _OF_ARRAYS | _OF_OBJECTS
# As the board reads them (`edge_agent.output_parsing.gemma_reader`).
_BARE_KEY = re.compile(r"[^,:{}\[\]\s<]+")
_MOST_DEPTH = 60
_KINDS: Mapping[type, frozenset[str]] = {
    str: frozenset({"string"}),
    bool: frozenset({"boolean"}),
    int: frozenset({"integer", "number"}),
    float: frozenset({"number"}),
    type(None): frozenset({"null"}),
    dict: frozenset({"object"}),
    list: frozenset({"array"}),
}
# What a string must not spell: the board would take it for the control token.
_NO_MARK = r"~/(?s:.*)(<\|\"\|>|<tool_call\|>)(?s:.*)/"


class _Unsaid(Exception):
    """The schema asks for what these rules cannot say."""


def gemma_values(rule: str, schema: Mapping[str, Any], quote: str) -> list[str] | None:
    """The rule with this name and those that it needs, which begin with it; None: not to be said.

    `quote` is the control token around strings, in Lark.
    """
    writer = _Writer(rule, schema, quote)
    is_named = "$ref" in schema or "anyOf" in schema
    try:
        value = writer.value(schema if is_named else {"type": "object", **schema}, 0)
    except _Unsaid:
        return None
    return [f"{rule}: {value}", *writer.lines]


class _Writer:
    """Writes one schema; each step gives an expression of Lark, or raises _Unsaid."""

    def __init__(self, prefix: str, root: Mapping[str, Any], quote: str) -> None:
        self.lines: list[str] = []
        self._prefix, self._root, self._quote = prefix, root, quote
        self._refs: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._any = ""
        self._num_names = 0

    def value(self, schema: Any, depth: int) -> str:
        if schema is True:
            schema = {}
        if not isinstance(schema, Mapping) or depth > _MOST_DEPTH:
            raise _Unsaid
        match {key: value for key, value in schema.items() if key not in _ANNOTATIONS}:
            case asked if not asked:
                return self._anything()
            case {"$ref": str(reference), **rest} if not rest:
                return self._reference(reference, depth)
            case {"anyOf": [_, *_] as schemas, **rest} if not rest:
                return _one_of([self.value(each, depth + 1) for each in schemas])
            case {"const": value, **rest} if _are_of([value], rest):
                return self._literal(value)
            case {"enum": [_, *_] as values, **rest} if _are_of(values, rest):
                return _one_of([self._literal(value) for value in values])
            case asked:
                return self._typed(asked, depth)

    def _typed(self, asked: Mapping[str, Any], depth: int) -> str:
        kinds = asked.get("type", "object" if "properties" in asked else ())
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        if not kinds or not asked.keys() <= _KNOWN | {"type"}:
            raise _Unsaid
        return _one_of([self._of_type(kind, asked, depth) for kind in kinds])

    def _of_type(self, kind: Any, asked: Mapping[str, Any], depth: int) -> str:
        match kind:
            case "object":
                return self._object(asked, depth)
            case "array":
                return self._array(asked, depth)
            case "string":
                return self._string(asked)
            case "integer" | "number":
                limits = {key: asked[key] for key in asked.keys() & _OF_NUMBERS}
                return self._rule(f"%json {json.dumps({'type': kind, **limits}, sort_keys=True)}")
            case "boolean":
                return '("true" | "false")'
            case "null":
                return '"null"'
            case _:
                raise _Unsaid

    def _object(self, asked: Mapping[str, Any], depth: int) -> str:
        if asked.get("maxProperties") == 0:
            return '"{" "}"'
        if "maxProperties" in asked:
            raise _Unsaid
        required = set(asked.get("required", ()))
        known = {**dict.fromkeys(required, True), **asked.get("properties", {})}
        other = asked.get("additionalProperties", not known)
        extra = "" if other is False else self._member(self._key(tuple(known)), other, depth)
        first = f"({extra} {self._more(extra)})?" if extra else ""
        behind = self._more(extra) if extra else ""
        for key in sorted(known, key=lambda key: (key.lower(), key), reverse=True):
            member = self._rule(self._member(self._written(key), known[key], depth))
            if key in required:
                first = f"{member} {behind}"
            else:
                with_it = f"{member} {behind}"
                first = f"({with_it} | {self._rule(first)})" if first else f"({with_it})?"
            behind = self._rule(f'"," {member} {behind}' if key in required
                                else f'("," {member})? {behind}')  # fmt: skip
        return f'"{{" {first} "}}"'

    def _member(self, key: str, schema: Any, depth: int) -> str:
        return f'{key} ":" {self.value(schema, depth + 1)}'

    def _array(self, asked: Mapping[str, Any], depth: int) -> str:
        least, most = _range(asked, "minItems", "maxItems")
        if most == 0:
            return '"[" "]"'
        item = self._rule(self.value(asked.get("items", True), depth + 1))
        ends = f"{max(least - 1, 0)},{'' if most is None else most - 1}"
        items = f'{item} ("," {item}){{{ends}}}'
        return f'"[" {items} "]"' if least else f'"[" ({items})? "]"'

    def _string(self, asked: Mapping[str, Any]) -> str:
        least, most = _range(asked, "minLength", "maxLength")
        if most == 0:
            return f"{self._quote} {self._quote}"
        text = f"/(?s:.{{{max(least, 1)},{'' if most is None else most}}})/ & {_NO_MARK}"
        name = self._terminal(text)
        return f"{self._quote} {name if least else f'{name}?'} {self._quote}"

    def _anything(self) -> str:
        if not self._any:
            self._any = self._name()
            value, pair = self._any, f'{self._key(())} ":" {self._any}'
            number = self._rule('%json {"type": "number"}')
            self.lines.append(
                f'{value}: {self._string({})} | {number} | "true" | "false" | "null"'
                f' | "{{" ({pair} {self._more(pair)})? "}}"'
                f' | "[" ({value} {self._more(value)})? "]"'
            )
        return self._any

    def _literal(self, value: Any) -> str:
        match value:
            case "":
                return f"{self._quote} {self._quote}"
            case str():
                return f"{self._quote} {_text(value)} {self._quote}"
            case list():
                return f'"[" {_joined([self._literal(each) for each in value])} "]"'
            case dict():
                pairs = [
                    f'{self._written(key)} ":" {self._literal(value[key])}'
                    for key in sorted(value, key=lambda key: (key.lower(), key))
                ]
                return f'"{{" {_joined(pairs)} "}}"'
            case _:
                return _text(json.dumps(value))

    def _reference(self, reference: str, depth: int) -> str:
        if reference not in self._refs:
            named: Any = self._root
            for part in reference.removeprefix("#").split("/")[1:]:
                part = part.replace("~1", "/").replace("~0", "~")
                if not isinstance(named, Mapping) or part not in named:
                    raise _Unsaid
                named = named[part]
            if not reference.startswith("#"):
                raise _Unsaid
            self._refs[reference] = name = self._name()
            self.lines.append(f"{name}: {self.value(named, depth + 1)}")
        return self._refs[reference]

    def _written(self, key: str) -> str:
        return _text(key) if _BARE_KEY.fullmatch(key) else self._literal(key)

    def _key(self, known: Sequence[str]) -> str:
        """A key that the schema does not name."""
        text = r"/[A-Za-z_][A-Za-z0-9_.\-]{0,63}/"
        bare = [key for key in known if re.fullmatch(r"[A-Za-z0-9_.\-]+", key)]
        return self._terminal(f"{text} & ~/{'|'.join(map(re.escape, bare))}/" if bare else text)

    def _more(self, item: str) -> str:
        return f'("," {item})*'

    def _rule(self, body: str) -> str:
        name = self._name()
        self.lines.append(f"{name}: {body}")
        return name

    def _terminal(self, text: str) -> str:
        if text not in self._texts:
            self._texts[text] = self._name().upper()
            self.lines.append(f"{self._texts[text]}: {text}")
        return self._texts[text]

    def _name(self) -> str:
        self._num_names += 1
        return f"{self._prefix}_{self._num_names}"


def _are_of(values: Sequence[Any], rest: Mapping[str, Any]) -> bool:
    """Whether a type is all else that is asked of these values, and theirs."""
    kinds = rest.get("type", ["string", "number", "integer", "boolean", "null", "object", "array"])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return rest.keys() <= {"type"} and all(not _KINDS[type(v)].isdisjoint(kinds) for v in values)


def _one_of(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"({' | '.join(values)})"


def _joined(values: Sequence[str]) -> str:
    return ' "," '.join(values)


def _text(text: str) -> str:
    if '<|"|>' in text or "<tool_call|>" in text:
        raise _Unsaid
    return json.dumps(text)


def _range(asked: Mapping[str, Any], least: str, most: str) -> tuple[int, int | None]:
    numbers = asked.get(least, 0), asked.get(most)
    match numbers:
        case (int(low), int() | None as high) if 0 <= low and (high is None or low <= high):
            return low, high
        case _:
            raise _Unsaid
