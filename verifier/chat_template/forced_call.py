"""The grammar of an answer that must be a call of a function.

Such calls are written in Hermes' form, whatever the model's own, for a grammar is of text and most
others mark their calls by control tokens; Llama's is text too. Where a target thinks between marks
that are text, it may do so first. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import RequestRefused
from shared.protocol.grammar import MAX_GRAMMAR_BYTES, Grammar
from shared.protocol.messages import OutputFormat

FIELD = "tool_choice"
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_HERMES = ('<tool_call>\n{"name": ', ', "arguments": ', "}\n</tool_call>", "\n")
_THOUGHTS = ('thoughts: inside "\\n\\n"', 'inside[stop="</think>"]: /(?s:.*)/')
_LLAMA = ('{"name": ', ', "parameters": ', "}", "; ")


def forced_format(target: OutputFormat) -> OutputFormat:
    """How a target writes a call that it must make; its thoughts as ever, if they are text."""
    family = "llama" if target.tools == "llama" else "hermes"
    if target.reasoning == "think":
        return OutputFormat(family, "think", target.opening)
    return OutputFormat(family)


def forced_call(
    output_format: OutputFormat, tools: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Grammar:
    """What an answer in this form must be: a call of one of these functions; of several, calls.

    Raises:
        RequestRefused: a tool is no function, a name is none of theirs, or their schemas together
            are too long.
    """
    opening, middle, closing, between = _LLAMA if output_format.tools == "llama" else _HERMES
    schemas = dict([_function(tool) for tool in tools])
    names = tuple(dict.fromkeys(names))  # a name is a schema, however often it is said
    unknown = [name for name in names if name not in schemas]
    if unknown:
        raise RequestRefused(f"{FIELD}: none of the tools is {unknown[0]}", FIELD)
    more = f" ({_literal(between)} call)*" if len(names) > 1 else ""
    lines = [
        f"start: {_thoughts(output_format)}call{more}",
        f"call: {' | '.join(f'call{i}' for i in range(len(names)))}",
    ]
    for i, name in enumerate(names):
        head, tail = _literal(f"{opening}{json.dumps(name)}{middle}"), _literal(closing)
        lines.append(f"call{i}: {head} arguments{i} {tail}")
        lines.append(f"arguments{i}: %json {_of(schemas[name])}")
    text = "\n".join([*lines, *(_THOUGHTS if "thoughts" in lines[0] else ())])
    if (num_bytes := len(text.encode())) > MAX_GRAMMAR_BYTES:
        sentence = f"{FIELD}: a grammar of {num_bytes} bytes exceeds {MAX_GRAMMAR_BYTES}"
        raise RequestRefused(f"{sentence}; name one function, or send auto", FIELD)
    return Grammar("lark", text, FIELD)


def _function(tool: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The name and the schema of a tool."""
    match tool:
        case {"function": {"name": str(name), "parameters": Mapping() as schema}}:
            return name, schema
    raise RequestRefused("a tool is no function with a name and parameters", "tools")


def _thoughts(output_format: OutputFormat) -> str:
    if output_format.reasoning != "think":
        return ""
    return "thoughts " if output_format.opening else '("<think>" thoughts)? '


def _literal(text: str) -> str:
    """A text in Lark, which has JSON's escapes."""
    return json.dumps(text)


def _of(schema: Mapping[str, Any]) -> str:
    """A schema of arguments, which are an object, in one line."""
    return json.dumps({"x-guidance": _SPACING, "type": "object", **schema})
