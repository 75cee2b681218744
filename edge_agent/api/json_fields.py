"""Reading one field of a client's JSON, with errors in the words of JSON that name field and limit.

This module must never put more of a client's text into an error than a short setting's value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from shared.errors import RequestRefused

# Commas, brackets and braces, in strings or not: more than the longest prompt can hold. A body that
# is nothing else makes 100 ns of work, or more, of each.
MAX_SEPARATORS = 256 * 1024
_JSON_WORDS = {"float": "number", "int": "integer", "str": "string", "bool": "boolean"}
_LONGEST_SHOWN_CHARACTERS = 40


def read_json_object(body: bytes | str) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        RequestRefused: it is none.
    """
    num_separators = _count_separators(body)
    if num_separators > MAX_SEPARATORS:
        raise RequestRefused(f"the body has {num_separators} parts, beyond {MAX_SEPARATORS}")
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RequestRefused(f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RequestRefused(f"the body must be a JSON object, not {kind_of(fields)}")
    return fields


def _count_separators(body: bytes | str) -> int:
    if isinstance(body, str):
        return sum(body.count(separator) for separator in ",[{")
    return sum(body.count(separator) for separator in (b",", b"[", b"{"))


def read_field(
    fields: Mapping[str, Any], name: str, kind: Any, default: Any = None, *, parent: str = ""
) -> Any:
    """The field as `kind`, or `default` where it is missing or null; errors show `parent + name`.

    Raises:
        RequestRefused: the value is of another type or out of range.
    """
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, float) and value.is_integer() and _wants_integer(kind):
        value = int(value)  # clients of languages with one kind of number write 6.0
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if get_origin(kind) is Literal:
            reason = f"must be one of {', '.join(get_args(kind))}"
        else:
            reason = str(error)
        raise _refusal(parent + name, value, reason) from error


def _wants_integer(kind: Any) -> bool:
    return (get_args(kind)[0] if get_origin(kind) is Annotated else kind) is int


def _refusal(name: str, value: Any, reason: str) -> RequestRefused:
    """The reason in the words of JSON; msgspec's path to an element is made part of the name."""
    reason, _, path = reason.partition(" - at `$")
    for index in re.findall(r"\[(\d+)\]", path):
        value = value[int(index)]
        name = f"{name}[{index}]"
    reason = re.sub(r"`(\w+)`", lambda word: _JSON_WORDS.get(word[1], word[1]), reason)
    reason = reason[0].lower() + reason[1:]
    return RequestRefused(f"{name} = {shown(value)}: {reason}", name)


def shown(value: object) -> str:
    """A setting's value for an error; anything that may be a prompt is only described."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str) and len(value) <= _LONGEST_SHOWN_CHARACTERS:
        return repr(value)
    return kind_of(value)


def kind_of(value: object) -> str:
    """What kind of JSON value it is, with an article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return f"a string of {len(value)} characters"
        case list():
            return f"a list of {len(value)}"
        case _:
            return "an object"
