"""Rules of Lark for calls whose form has control tokens: Mistral's, gpt-oss's and Gemma's. Pure.

A control token stands in them by its id. Where a family has known several forms, all of them are
allowed: which one a target was taught it knows best itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from shared.protocol.messages import OutputFormat
from verifier.chat_template.gemma_values import gemma_values

Marks = Mapping[str, int]  # ids of a vocabulary's control tokens, by their names

_CALLS, _ARGUMENTS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_THINK, _THINK_END = "[THINK]", "[/THINK]"
_CHANNEL, _BODY, _START, _END = "<|channel|>", "<|message|>", "<|start|>", "<|end|>"
_CONSTRAIN = "<|constrain|>"
_CALL, _CALL_END, _QUOTE = "<|tool_call>", "<tool_call|>", '<|"|>'
_GEMMA_THINK, _GEMMA_THINK_END = "<|channel>", "<channel|>"
_GEMMA_NAME = re.compile(r"[\w.:-]+", re.ASCII)  # as boards read it
_INSIDE = "inside: /(?s:.*)/"


def has_marked_calls(target: OutputFormat, marks: Marks) -> bool:
    """Whether a call of this target can be demanded in its own form of control tokens."""
    match target.tools:
        case "mistral":
            needed = {_CALLS} | ({_THINK_END} if target.opening else set())
            return needed <= marks.keys()
        case "harmony":
            return not target.opening and {_CHANNEL, _BODY, _START, _END} <= marks.keys()
        case "gemma":
            needed = {_CALL, _CALL_END, _QUOTE} | ({_GEMMA_THINK_END} if target.opening else set())
            return needed <= marks.keys()
        case _:
            return False


def gemma_arguments(schemas: Mapping[str, Mapping[str, Any]], marks: Marks) -> list[str] | None:
    """Rules for the arguments of these functions as Gemma writes them; None: not to be said."""
    lines: list[str] = []
    for i, (name, schema) in enumerate(schemas.items()):
        rules = gemma_values(f"arguments{i}", schema, _token(marks, _QUOTE))
        if rules is None or not _GEMMA_NAME.fullmatch(name):
            return None
        lines += rules
    return lines


def marked_calls(target: OutputFormat, names: Sequence[str], marks: Marks) -> list[str]:
    """Rules from `start` on, in which `arguments0` are those of the first of these functions.

    Of several, one or more are called; by gpt-oss one, for its calls end its turn.
    """
    match target.tools:
        case "harmony":
            return _harmony(names, marks)
        case "gemma":
            return _gemma(target, names, marks)
        case _:
            return _mistral(target, names, marks)


def _mistral(target: OutputFormat, names: Sequence[str], marks: Marks) -> list[str]:
    calls, several = _token(marks, _CALLS), len(names) > 1
    lists = f'{calls} "[" listed' + (' (", " listed)*' if several else "") + ' "]"'
    lines = [f"listed: {_any_of('listed', names)}"]
    for i, name in enumerate(names):
        head = json.dumps(f'{{"name": {json.dumps(name)}, "arguments": ')
        lines.append(f'listed{i}: {head} arguments{i} "}}"')
    forms = lists
    if _ARGUMENTS in marks:
        forms += f" | {calls} named" + (f" ({calls} named)*" if several else "")
        number = f"({_token(marks, _ID)} /[A-Za-z0-9]{{9}}/)? " if _ID in marks else ""
        behind = f"{number}{_token(marks, _ARGUMENTS)}"
        lines.append(f"named: {_any_of('named', names)}")
        lines += [
            f"named{i}: {json.dumps(name)} {behind} arguments{i}" for i, name in enumerate(names)
        ]
    thoughts = _thoughts(target, marks, _THINK, _THINK_END)
    return [f"start: {thoughts}calls", f"calls: {forms}", *lines, _INSIDE]


def _gemma(target: OutputFormat, names: Sequence[str], marks: Marks) -> list[str]:
    thoughts = ""
    if target.reasoning == "gemma":
        thoughts = _thoughts(target, marks, _GEMMA_THINK, _GEMMA_THINK_END)
    lines = [
        f"start: {thoughts}call{'+' if len(names) > 1 else ''}",
        f"call: {_token(marks, _CALL)} ({_any_of('call', names)}) {_token(marks, _CALL_END)}",
    ]
    lines += [f"call{i}: {json.dumps(f'call:{name}')} arguments{i}" for i, name in enumerate(names)]
    return [*lines, _INSIDE] if thoughts else lines


def _thoughts(target: OutputFormat, marks: Marks, opening: str, closing: str) -> str:
    if target.opening:
        return f"inside {_token(marks, closing)} "
    if {opening, closing} <= marks.keys():
        return f"({_token(marks, opening)} inside {_token(marks, closing)})? "
    return ""


def _harmony(names: Sequence[str], marks: Marks) -> list[str]:
    channel, body = _token(marks, _CHANNEL), _token(marks, _BODY)
    again = f'{_token(marks, _END)} {_token(marks, _START)} "assistant"'
    kinds = '" json"'
    if _CONSTRAIN in marks:
        kinds += f' | " " {_token(marks, _CONSTRAIN)} "json"'
    lines = [
        "start: said* call",
        f'said: {channel} ("analysis" | "commentary") {body} inside {again}',
        f"call: {_any_of('call', names)}",
    ]
    for i, name in enumerate(names):
        to = json.dumps(f" to=functions.{name}")
        places = f'({channel} "commentary" {to} | {to} {channel} "commentary")'
        lines.append(f"call{i}: {places} ({kinds})? {body} arguments{i}")
    return [*lines, _INSIDE]


def _any_of(rule: str, names: Sequence[str]) -> str:
    return " | ".join(f"{rule}{i}" for i in range(len(names)))


def _token(marks: Marks, name: str) -> str:
    return f"<[{marks[name]}]>"
