"""What form an answer must have, in the words of all dialects: one grammar, or none.

Whether it is a grammar at all is for the verifier to say, which must hold its target to it. This
module must never read a schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from edge_agent.api.json_fields import kind_of, read_field, shown
from shared.errors import RequestRefused
from shared.protocol.grammar import MAX_GRAMMAR_BYTES, Grammar, GrammarKind

MAX_CHOICES = 1024

_Reader = Callable[[object, str], Grammar | None]


def read_grammar(fields: Mapping[str, Any]) -> Grammar | None:
    """The grammar that any of `GRAMMAR_FIELDS` asks for.

    Raises:
        RequestRefused: a field is of a wrong type, too long, or contradicts another.
    """
    asked = [_of_field(fields, name) for name in fields if name in GRAMMAR_FIELDS]
    grammars = [grammar for grammar in asked if grammar is not None]
    if len(grammars) > 1:
        first, second = grammars[0].field, grammars[1].field
        sentence = f"{first} and {second} both say what the answer must be: send one of them"
        raise RequestRefused(sentence, second)
    return grammars[0] if grammars else None


def read_format(value: object, name: str) -> Grammar | None:
    """A form as OpenAI's and Anthropic's APIs say it: a `type`, and for a schema the schema.

    Raises:
        RequestRefused: it is none of these.
    """
    form = _object(value, name)
    kind = form.get("type")
    if kind in (None, "text") and not form.keys() - {"type"}:
        return None
    inner, parent = form, name
    if isinstance(form.get("json_schema"), dict):
        inner, parent = form["json_schema"], f"{name}.json_schema"
    schema = inner.get("schema")
    if kind == "json_schema" or (kind == "json_object" and schema is not None):
        if schema is None:
            raise RequestRefused(f"{parent}.schema is missing", f"{parent}.schema")
        return read_schema(schema, f"{parent}.schema")
    if kind == "json_object":
        return Grammar("json_object", field=name)
    sentence = f"{name}.type = {shown(kind)}: must be one of text, json_object, json_schema"
    raise RequestRefused(sentence, f"{name}.type")


def read_schema(value: object, name: str) -> Grammar | None:
    """A JSON schema, as JSON or as a text of JSON; nothing but an empty one asks for nothing.

    Raises:
        RequestRefused: it is no object, or too long.
    """
    if isinstance(value, str):
        return _grammar("json_schema", value, name)
    if not isinstance(value, dict | bool):
        raise RequestRefused(f"{name} must be a JSON schema, not {kind_of(value)}", name)
    return _grammar("json_schema", msgspec.json.encode(value).decode(), name)


def read_ollama_format(value: object) -> Grammar | None:
    """Ollama's `format`: `json`, or a schema.

    Raises:
        RequestRefused: it is neither.
    """
    if value is None or value == "":
        return None
    if value == "json":
        return Grammar("json_object", field="format")
    if isinstance(value, dict):
        return read_schema(value, "format")
    raise RequestRefused(f"format = {shown(value)}: must be 'json' or a JSON schema", "format")


def _of_field(fields: Mapping[str, Any], name: str) -> Grammar | None:
    value = fields[name]
    return None if value is None else GRAMMAR_FIELDS[name](value, name)


def _grammar(kind: GrammarKind, text: str, name: str) -> Grammar:
    if (num_bytes := len(text.encode())) > MAX_GRAMMAR_BYTES:
        raise RequestRefused(f"{name} of {num_bytes} bytes exceeds {MAX_GRAMMAR_BYTES}", name)
    return Grammar(kind, text, name)


def _guided_schema(value: object, name: str) -> Grammar | None:
    """Where an empty one is how clients say nothing."""
    return None if value in ("", {}) else read_schema(value, name)


def _text_reader(kind: GrammarKind) -> _Reader:
    def read(value: object, name: str) -> Grammar | None:
        if not isinstance(value, str):
            raise RequestRefused(f"{name} must be a string, not {kind_of(value)}", name)
        return _grammar(kind, value, name) if value else None

    return read


def _choice(value: object, name: str) -> Grammar | None:
    """One of a few texts, as a rule of Lark's, whose strings are those of JSON."""
    choices: list[str] = read_field({name: value}, name, list[str])
    if len(choices) > MAX_CHOICES:
        raise RequestRefused(f"{name} of {len(choices)} texts exceeds {MAX_CHOICES}", name)
    rule = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    return _grammar("lark", f"start: {rule}", name) if choices else None


def _structured_outputs(value: object, name: str) -> Grammar | None:
    """The object in which vLLM gathers what were fields of their own."""
    asked = _object(value, name)
    grammars: list[Grammar | None] = []
    for part, said in asked.items():
        if said is None or said is False:
            continue
        of_part = f"{name}.{part}"
        if part == "json_object" and said is True:
            grammars.append(Grammar("json_object", field=of_part))
        elif part in _PARTS:
            grammars.append(_PARTS[part](said, of_part))
        else:
            known = ", ".join([*_PARTS, "json_object"])
            raise RequestRefused(f"{of_part} is not supported: send one of {known}", of_part)
    if len(grammars) > 1:
        raise RequestRefused(f"{name} must say one thing, not {len(grammars)}", name)
    return grammars[0] if grammars else None


def _object(value: object, name: str) -> dict[str, Any]:
    asked: dict[str, Any] = read_field({name: value}, name, dict[str, Any], {})
    return asked


_PARTS: Mapping[str, _Reader] = {
    "json": read_schema,
    "regex": _text_reader("regex"),
    "choice": _choice,
    "grammar": _text_reader("gbnf"),
}

GRAMMAR_FIELDS: Mapping[str, _Reader] = {
    "response_format": read_format,  # OpenAI, and those that follow it
    "output_format": read_format,  # Anthropic, before it went into output_config
    "structured_outputs": _structured_outputs,  # vLLM
    "guided_json": _guided_schema,
    "guided_regex": _text_reader("regex"),
    "guided_choice": _choice,
    "guided_grammar": _text_reader("gbnf"),
    "json_schema": _guided_schema,  # llama-server, and as a text SGLang
    "grammar": _text_reader("gbnf"),
    "regex": _text_reader("regex"),  # SGLang
    "ebnf": _text_reader("gbnf"),
}
