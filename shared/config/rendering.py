"""A configuration as TOML text: an example with every key explained, or what is in force and why.

Names, limits and sentences come from the structs, so the text cannot fall behind them. This module
must never show a secret.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import FieldInfo

from shared.config.sections import ConfigT, Loaded
from shared.config.words import description, is_secret, shown

_HEADER = """\
# Every key with its default: keep what you change.
# Below this file stands the profile of the board, if there is one (`config show` tells). Above it
# stand <this file>.d/*.toml, then the environment (GOODSPEED__SECTION__KEY), then the command line.

"""


def example_toml(config_type: type[msgspec.Struct]) -> str:
    """Every key with its default and what it is for; keys without a default are commented out."""

    def explained(field: FieldInfo, key: str, assignment: str) -> str:
        return f"# {description(field.type)}\n{assignment}"

    return _HEADER + _toml(config_type(), explained)


def effective_toml(loaded: Loaded[ConfigT], *, with_origins: bool = True) -> str:
    """Every value in force, with the place that it comes from; secrets are covered."""

    def with_origin(field: FieldInfo, key: str, assignment: str) -> str:
        return f"{assignment}  # {loaded.origins[key]}" if with_origins else assignment

    return _toml(loaded.config, with_origin)


def json_schema(config_type: type[msgspec.Struct]) -> dict[str, object]:
    """A JSON Schema of the TOML file, for editors."""
    sections = msgspec.structs.fields(config_type)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_table({section.name: _section_schema(section) for section in sections}),
    }


def _section_schema(section: FieldInfo) -> dict[str, object]:
    values = section.type()
    keys = {
        field.name: msgspec.json.schema(field.type, schema_hook=_path_schema)
        | _default_of(getattr(values, field.name))
        for field in msgspec.structs.fields(section.type)
    }
    return {"description": inspect.getdoc(section.type)} | _table(keys)


def _table(properties: Mapping[str, object]) -> dict[str, object]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _path_schema(_: type) -> dict[str, object]:
    """Of the one type that JSON does not know."""
    return {"type": "string", "minLength": 1}


def _default_of(value: object) -> dict[str, object]:
    """TOML has no null: a key without a default is left out."""
    return {} if value is None else {"default": msgspec.to_builtins(value, enc_hook=str)}


def _toml(config: msgspec.Struct, render: Callable[[FieldInfo, str, str], str]) -> str:
    blocks = []
    for section in msgspec.structs.fields(config):
        values = getattr(config, section.name)
        lines = [f"# {inspect.getdoc(section.type)}", f"[{section.name}]"]
        lines += [
            render(field, f"{section.name}.{field.name}", _assignment(field, values))
            for field in msgspec.structs.fields(values)
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _assignment(field: FieldInfo, section: msgspec.Struct) -> str:
    value = getattr(section, field.name)
    if value is None:
        return f"# {field.name} ="
    covered = '"…"' if is_secret(field.type) else shown(value)
    return f"{field.name} = {covered}"
