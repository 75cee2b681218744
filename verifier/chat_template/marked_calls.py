"""Rules of Lark for calls whose form has control tokens: Mistral's and gpt-oss's. Pure.

A control token stands in them by its id. Where a family has known several forms, all of them are
allowed: which one a target was taught it knows best itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from shared.protocol.messages import OutputFormat

Marks = Mapping[str, int]  # ids of a vocabulary's control tokens, by their names

_CALLS, _ARGUMENTS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_THINK, _THINK_END = "[THINK]", "[/THINK]"
_CHANNEL, _BODY, _START, _END = "<|channel|>", "<|message|>", "<|start|>", "<|end|>"
_CONSTRAIN = "<|constrain|>"
_INSIDE = "inside: /(?s:.*)/"


def has_marked_calls(target: OutputFormat, marks: Marks) -> bool:
    """Whether a call of this target can be demanded in its own form of control tokens."""
    match target.tools:
        case "mistral":
            needed = {_CALLS} | ({_THINK_END} if target.opening else set())
            return needed <= marks.keys()
        case "harmony":
            return not target.opening and {_CHANNEL, _BODY, _START, _END} <= marks.keys()
        case _:
            return False


def marked_calls(target: OutputFormat, names: Sequence[str], marks: Marks) -> list[str]:
    """Rules from `start` on, in which `arguments0` are those of the first of these functions.

    Of several, one or more are called; by gpt-oss one, for its calls end its turn.
    """
    return _harmony(names, marks) if target.tools == "harmony" else _mistral(target, names, marks)


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
    return [f"start: {_thoughts(target, marks)}calls", f"calls: {forms}", *lines, _INSIDE]


def _thoughts(target: OutputFormat, marks: Marks) -> str:
    if target.opening:
        return f"inside {_token(marks, _THINK_END)} "
    if {_THINK, _THINK_END} <= marks.keys():
        return f"({_token(marks, _THINK)} inside {_token(marks, _THINK_END)})? "
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
