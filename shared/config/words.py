"""What a setting must be, in plain words, made from its type: nothing is described twice.

msgspec's own sentences name types and JSON paths; a person who edits a file needs neither.
This module must never read a setting or decide whether a value fits.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import inspect

SMALLEST_LIKENESS = 0.6  # of difflib: "thread" is 0.92 like "threads", "port" 0.5 like "policy"

# Put into `Meta(extra=...)` of a setting whose value must never be shown.
SECRET = {"is_secret": True}


def must_be(words: str) -> dict[str, str]:
    """`Meta(extra=...)` of a setting with a pattern: what to say instead of the pattern."""
    return {"must_be": words}


def requirement(field_type: object, value: object) -> str:
    """What a setting of this type must be, when `value` is not: "at least 1", "true or false"."""
    return _describe(inspect.type_info(field_type), value)


def is_secret(field_type: object) -> bool:
    """Whether the values of this setting must never be shown."""
    return any(SECRET.items() <= extra.items() for extra in _extras(inspect.type_info(field_type)))


def is_table(field_type: object) -> bool:
    """Whether this setting has keys of its own, which are not known here."""
    kind = inspect.type_info(field_type)
    inner = kind.type if isinstance(kind, inspect.Metadata) else kind
    return isinstance(inner, inspect.DictType)


def description(field_type: object) -> str:
    """What this setting is for, as `Meta(description=...)` says."""
    kind = inspect.type_info(field_type)
    schema = kind.extra_json_schema if isinstance(kind, inspect.Metadata) else None
    return str((schema or {}).get("description", ""))


def shown(value: object) -> str:
    """A value as it would stand in TOML."""
    if isinstance(value, (str, Path)):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(key)} = {shown(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return json.dumps(msgspec.to_builtins(value, enc_hook=str), ensure_ascii=False)


def did_you_mean(
    name: str, known: Iterable[str], smallest_likeness: float = SMALLEST_LIKENESS
) -> str | None:
    """The known name that is most like `name`, if any is."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=smallest_likeness)
    return matches[0] if matches else None


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)


def _describe(kind: inspect.Type, value: object) -> str:
    match kind:
        case inspect.Metadata(type=inner, extra=extra):
            return (
                str(extra["must_be"]) if extra and "must_be" in extra else _describe(inner, value)
            )
        case inspect.IntType():
            is_number = isinstance(value, int) and not isinstance(value, bool)
            return _with_bounds("a whole number", kind, is_number)
        case inspect.FloatType():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            return _with_bounds("a number", kind, is_number)
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            names = [str(allowed) for allowed in values]
            meant = did_you_mean(str(value), names)
            return _one_of(names) + (f" (did you mean {meant}?)" if meant else "")
        case inspect.UnionType(types=members):
            members = tuple(m for m in members if not isinstance(m, inspect.NoneType))
            return " or ".join(_describe(member, value) for member in members)
        case inspect.StrType():
            if not isinstance(value, str):
                return "text in quotes"
            return "a longer text" if value else "text that is not empty"
        case inspect.DictType():
            return "a table, such as { key = 1 }"
        case inspect.CustomType():
            return "a path in quotes"
        case _:
            raise TypeError(f"no words for a setting of type {kind}")


def _with_bounds(noun: str, kind: inspect.IntType | inspect.FloatType, is_number: bool) -> str:
    match _plain(kind.ge), _plain(kind.le):
        case None, None:
            return noun
        case low, None:
            bounds = f"at least {low}"
        case None, high:
            bounds = f"at most {high}"
        case low, high:
            bounds = f"from {low} to {high}"
    return bounds if is_number else f"{noun}, {bounds}"


def _plain(bound: float | None) -> float | None:
    """1 for 1.0: equal types are one type to Python, whichever of them was written first."""
    return int(bound) if bound is not None and bound == int(bound) else bound


def _one_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _extras(kind: inspect.Type) -> Iterable[dict[str, object]]:
    match kind:
        case inspect.Metadata(type=inner, extra=extra):
            yield from [extra] if extra else []
            yield from _extras(inner)
        case inspect.UnionType(types=members):
            for member in members:
                yield from _extras(member)
