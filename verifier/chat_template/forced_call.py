"""The grammar of an answer that must be a call of a function.

Such calls are written in the target's own form, or where a grammar cannot say that in Hermes'. A
target that thinks may do so first. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import RequestRefused
from shared.protocol.grammar import MAX_GRAMMAR_BYTES, Grammar
from shared.protocol.messages import OutputFormat
from verifier.chat_template.marked_calls import (
    Marks,
    gemma_arguments,
    has_marked_calls,
    marked_calls,
)

FIELD = "tool_choice"
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_HERMES = ('<tool_call>\n{"name": ', ', "arguments": ', "}\n</tool_call>", "\n")
_THOUGHTS = ('thoughts: inside "\\n\\n"', 'inside[stop="</think>"]: /(?s:.*)/')
_LLAMA = ('{"name": ', ', "parameters": ', "}", "; ")


def forced_format(
    target: OutputFormat,
    tools: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    marks: Marks,
) -> OutputFormat:
    """How a target with these control tokens writes a call of one of these functions.

    Raises:
        RequestRefused: a tool is no function, or a name is none of theirs.
    """
    if has_marked_calls(target, marks):
        is_gemma = target.tools == "gemma"
        if not is_gemma or gemma_arguments(_called(tools, names), marks) is not None:
            return target
    family = "llama" if target.tools == "llama" else "hermes"
    if target.reasoning == "think":
        return OutputFormat(family, "think", target.opening)
    return OutputFormat(family)


def forced_call(
    output_format: OutputFormat,
    tools: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    marks: Marks,
) -> Grammar:
    """What an answer in this form must be: a call of one of these functions; of several, calls.

    The form is one that `forced_format` gives.

    Raises:
        RequestRefused: a tool is no function, a name is none of theirs, or their schemas together
            are too long.
    """
    called = _called(tools, names)
    names = tuple(called)
    is_marked = output_format.tools in ("mistral", "harmony", "gemma")
    lines = marked_calls(output_format, names, marks) if is_marked else _text(output_format, names)
    arguments = [f"arguments{i}: %json {_of(called[name])}" for i, name in enumerate(names)]
    if output_format.tools == "gemma":
        arguments = gemma_arguments(called, marks) or arguments
    text = "\n".join([*lines, *arguments])
    if (num_bytes := len(text.encode())) > MAX_GRAMMAR_BYTES:
        sentence = f"{FIELD}: a grammar of {num_bytes} bytes exceeds {MAX_GRAMMAR_BYTES}"
        raise RequestRefused(f"{sentence}; name one function, or send auto", FIELD)
    return Grammar("lark", text, FIELD)


def _called(
    tools: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    """The schemas of these functions; a name is one of them, however often it is said."""
    schemas = dict([_function(tool) for tool in tools])
    unknown = [name for name in names if name not in schemas]
    if unknown:
        raise RequestRefused(f"{FIELD}: none of the tools is {unknown[0]}", FIELD)
    return {name: schemas[name] for name in names}


def _function(tool: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The name and the schema of a tool."""
    match tool:
        case {"function": {"name": str(name), "parameters": Mapping() as schema}}:
            return name, schema
    raise RequestRefused("a tool is no function with a name and parameters", "tools")


def _text(output_format: OutputFormat, names: Sequence[str]) -> list[str]:
    """The rules of a form without control tokens."""
    opening, middle, closing, between = _LLAMA if output_format.tools == "llama" else _HERMES
    more = f" ({_literal(between)} call)*" if len(names) > 1 else ""
    thoughts = _thoughts(output_format)
    lines = [
        f"start: {thoughts}call{more}",
        f"call: {' | '.join(f'call{i}' for i in range(len(names)))}",
    ]
    for i, name in enumerate(names):
        head = _literal(f"{opening}{json.dumps(name)}{middle}")
        lines.append(f"call{i}: {head} arguments{i} {_literal(closing)}")
    return [*lines, *(_THOUGHTS if thoughts else ())]


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
