"""Reading one field of a client's JSON, with errors in the words of JSON that name field and limit.

This module must never put more of a client's text into an error than a short setting's value.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from shared.errors import RequestRefused

# Commas, brackets and braces, in strings or not: more than the longest prompt can hold. A body that
# is nothing else makes 100 ns of work, or more, of each.
MAX_SEPARATORS = 256 * 1024
# Of a body with half a surrogate pair: mending takes the event loop three times as long as reading.
MAX_MENDED_BYTES = 32 * 1024
_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F]"
_LONE_SURROGATE = re.compile(rb"%b(?!%b)|(?<!%b)%b" % (_HIGH, _LOW, _HIGH, _LOW))
_JSON_WORDS = {"float": "number", "int": "integer", "str": "string", "bool": "boolean"}
_LONGEST_SHOWN_CHARACTERS = 40


def read_json_object(body: bytes | str) -> dict[str, Any]:
    """The body as a JSON object; half a surrogate pair reads as U+FFFD, and a BOM is skipped.

    Raises:
        RequestRefused: it is none.
    """
    if isinstance(body, str):
        body = body.encode("utf-8", "replace")
    body = body.removeprefix(codecs.BOM_UTF8)
    num_separators = sum(body.count(separator) for separator in (b",", b"[", b"{"))
    if num_separators > MAX_SEPARATORS:
        raise RequestRefused(f"the body has {num_separators} parts, beyond {MAX_SEPARATORS}")
    try:
        fields = msgspec.json.decode(_mended(body) if _has_lone_surrogate(body) else body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RequestRefused(f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RequestRefused(f"the body must be a JSON object, not {kind_of(fields)}")
    return fields


def is_slow_to_read(body: bytes) -> bool:
    """Whether reading it takes longer than others of its length, and too long for an event loop."""
    return len(body) > MAX_MENDED_BYTES and _has_lone_surrogate(body)


def _has_lone_surrogate(body: bytes) -> bool:
    """Whether it may have one: the text of an escaped backslash looks alike, and is no fault."""
    # Most bodies have no surrogate at all, which is seen a hundred times as fast.
    if b"\\ud" not in body and b"\\uD" not in body:
        return False
    return _LONE_SURROGATE.search(body) is not None


def _mended(body: bytes) -> str:
    """The same JSON with U+FFFD for each lone surrogate; raises ValueError where it is none."""
    loose = json.loads(body.decode(), parse_constant=_refuse_constant)
    text = json.dumps(loose, ensure_ascii=False)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


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
