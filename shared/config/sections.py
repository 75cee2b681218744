"""Settings from all layers, checked against a struct, with every problem reported at once.

Works for any frozen struct whose fields are `Section`s. It must never start anything, and never
show a secret.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from shared.config.layers import ConfigFile, Origin, Problem, Setting, read_layers
from shared.config.words import did_you_mean, is_secret, is_table, requirement, shown
from shared.errors import ConfigError

_DEFAULT = Origin(layer=-1, line=0, name="default")


class Section(msgspec.Struct, frozen=True):
    """The settings under one [header]; every field needs a default."""

    def unfit(self) -> Iterable[tuple[str, str]]:
        """Keys whose value does not go with that of another key, each with what it must be."""
        return ()


LogFormat = Literal["auto", "text", "json", "journal"]


class LogSection(Section, frozen=True):
    """What goes to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="lowest level shown")
    ] = "info"
    format: Annotated[
        LogFormat,
        Meta(description="auto: the journal with fields under systemd, else text; or one of them"),
    ] = "auto"


ConfigT = TypeVar("ConfigT", bound=msgspec.Struct)
SectionT = TypeVar("SectionT", bound=Section)


class Loaded(msgspec.Struct, Generic[ConfigT], frozen=True):
    """A checked configuration; `origins` says for every "section.key" where its value stands."""

    config: ConfigT
    origins: Mapping[str, str]


def load_config(
    config_type: type[ConfigT],
    files: Sequence[ConfigFile] = (),
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Loaded[ConfigT]:
    """The configuration that all layers together make: files in order, environment, command line.

    Of `environment` only GOODSPEED__SECTION__KEY is read; `overrides` maps "section.key" to a
    value, None meaning not given.

    Raises:
        ConfigError: with every problem of every layer, each naming where it stands.
    """
    fields = _fields(config_type)
    settings: dict[str, Setting] = {}  # of several layers the last one stands
    problems: list[Problem] = []
    for item in read_layers(files, environment or {}, overrides or {}):
        if isinstance(item, Problem):
            problems.append(item)
        elif item.key in fields:
            settings[item.key] = item
        else:
            problems.append(_unknown(item, fields))
    sections: dict[str, Section] = {}
    for field in msgspec.structs.fields(config_type):
        sections[field.name], section_problems = _load_section(field, settings)
        problems += section_problems
    if problems:
        raise ConfigError(tuple(str(problem) for problem in sorted(problems)))
    origins = {
        key: settings[key].origin.name if key in settings else _DEFAULT.name for key in fields
    }
    return Loaded(config=config_type(**sections), origins=origins)


def load_table(
    name: str, section_type: type[SectionT], settings: Sequence[Setting]
) -> tuple[SectionT, list[Problem]]:
    """One table of a file whose tables the caller names, and a problem for each wrong setting.

    Settings have the paths (name, key). A file that is no configuration of a program needs no more.
    """
    fields = {f"{name}.{field.name}": field for field in msgspec.structs.fields(section_type)}
    known = {setting.key: setting for setting in settings if setting.key in fields}
    problems = [_unknown(s, fields) for s in settings if s.key not in fields]
    section, wrong = _load_section(FieldInfo(name=name, encode_name=name, type=section_type), known)
    assert isinstance(section, section_type)
    return section, problems + wrong


def changed_keys(before: msgspec.Struct, after: msgspec.Struct) -> list[str]:
    """Every "section.key" whose value differs between two configurations of one program."""
    return [
        f"{section.name}.{field.name}"
        for section in msgspec.structs.fields(before)
        for field in msgspec.structs.fields(section.type)
        if getattr(getattr(before, section.name), field.name)
        != getattr(getattr(after, section.name), field.name)
    ]


def config_report(error: ConfigError) -> str:
    """What a person reads before the program ends with exit code 78."""
    count = len(error.problems)
    summary = f"{count} {'problem' if count == 1 else 'problems'}. Nothing was started."
    return "\n".join((*error.problems, summary))


def _fields(config_type: type[msgspec.Struct]) -> dict[str, FieldInfo]:
    """Every "section.key" that the configuration knows."""
    return {
        f"{section.name}.{field.name}": field
        for section in msgspec.structs.fields(config_type)
        for field in msgspec.structs.fields(section.type)
    }


def _unknown(setting: Setting, fields: Mapping[str, FieldInfo]) -> Problem:
    sections = {key.partition(".")[0] for key in fields}
    if setting.key in sections:
        return Problem(setting.origin, f"{setting.key}: must be a section, [{setting.key}]")
    elsewhere = [key for key in fields if key.endswith(f".{setting.path[-1]}")]
    if elsewhere:
        meant = did_you_mean(setting.key, elsewhere, smallest_likeness=0.0)
    else:
        meant = did_you_mean(setting.key, fields)
    hint = f" (did you mean {meant}?)" if meant else ""
    return Problem(setting.origin, f"{setting.key}: unknown key{hint}")


def _load_section(
    section: FieldInfo, settings: Mapping[str, Setting]
) -> tuple[Section, list[Problem]]:
    """The section with every value that fits, and a problem for each that does not."""
    values: dict[str, object] = {}
    problems: list[Problem] = []
    for field in msgspec.structs.fields(section.type):
        setting = settings.get(f"{section.name}.{field.name}")
        if setting is None:
            continue
        if setting.is_world_readable and is_secret(field.type):
            words = "a secret must not stand in a file that everyone can read (chmod 640)"
            problems.append(Problem(setting.origin, f"{setting.key}: {words}"))
        try:
            values[field.name] = _convert(setting, field)
        except msgspec.ValidationError:
            words = requirement(field.type, setting.value)
            problems.append(_wrong_value(setting, field, words))
    loaded: Section = section.type(**values)
    if not problems:  # with defaults in place of wrong values this could blame the right ones
        problems += _misfits(section, loaded, settings)
    return loaded, problems


def _convert(setting: Setting, field: FieldInfo) -> object:
    strict = not setting.is_text
    if is_table(field.type) and isinstance(setting.value, str):
        return _table_of(setting.value)
    return msgspec.convert(setting.value, field.type, strict=strict, dec_hook=_to_path)


def _table_of(text: str) -> object:
    """What stands behind `key =` in TOML, from the environment or the command line."""
    try:
        table = tomllib.loads(f"table = {text}")["table"]
    except tomllib.TOMLDecodeError as error:
        raise msgspec.ValidationError(str(error)) from error
    return msgspec.convert(table, dict[str, object])


def _to_path(target_type: type, value: object) -> Path:
    if target_type is not Path or not isinstance(value, (str, Path)) or not str(value):
        raise ValueError
    return Path(os.path.expanduser(value))


def _misfits(
    section: FieldInfo, loaded: Section, settings: Mapping[str, Setting]
) -> Iterator[Problem]:
    fields = {field.name: field for field in msgspec.structs.fields(section.type)}
    for name, words in loaded.unfit():
        key = f"{section.name}.{name}"
        default = Setting((section.name, name), getattr(loaded, name), _DEFAULT)
        yield _wrong_value(settings.get(key, default), fields[name], words)


def _wrong_value(setting: Setting, field: FieldInfo, words: str) -> Problem:
    is_shown = not is_secret(field.type) and setting.value is not None
    value = f" = {shown(setting.value)}" if is_shown else ""
    return Problem(setting.origin, f"{setting.key}{value}: must be {words}")
