"""Where settings come from: files, environment, command line, each setting with its origin.

Turns texts and mappings into one flat list, lowest layer first; only `read_config_files` touches
the disk. It must never judge a value: which keys exist and what they hold is for `sections`.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from shared.config.toml_lines import find_lines, line_of
from shared.errors import ConfigError

ENVIRONMENT_PREFIX = "GOODSPEED__"


class ConfigFile(msgspec.Struct, frozen=True):
    """One file's text; `name` is what a person reads in errors."""

    name: str
    text: str
    is_world_readable: bool = False


class Origin(msgspec.Struct, frozen=True, order=True):
    """Where a setting stands; sorts as the layers apply, within a file by line."""

    layer: int
    line: int
    name: str


class Setting(msgspec.Struct, frozen=True):
    """One value for one key; the path is (section, key), or (key,) outside of any section."""

    path: tuple[str, ...]
    value: object
    origin: Origin
    is_text: bool = False  # environment and command line: numbers may arrive as text
    is_world_readable: bool = False

    @property
    def key(self) -> str:
        return ".".join(self.path)


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong, and where."""

    origin: Origin
    sentence: str

    def __str__(self) -> str:
        return f"{self.origin.name}: {self.sentence}"


def read_config_files(path: Path) -> tuple[ConfigFile, ...]:
    """The file and, sorted by name, each `*.toml` in the directory beside it, `<path>.d`.

    Raises:
        ConfigError: one of them cannot be read.
    """
    drop_ins = sorted(path.with_name(f"{path.name}.d").glob("*.toml"))
    return tuple(read_config_file(file) for file in (path, *drop_ins))


def read_layers(
    files: Sequence[ConfigFile], environment: Mapping[str, str], overrides: Mapping[str, object]
) -> Iterator[Setting | Problem]:
    """All settings in the order in which they apply, with what could not be read between them."""
    for layer, file in enumerate(files):
        yield from _read_file(file, layer)
    yield from _read_environment(environment, len(files))
    yield from _read_overrides(overrides, len(files) + 1)


def read_config_file(path: Path) -> ConfigFile:
    """One file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from None
    except UnicodeDecodeError as error:
        raise ConfigError((f"{path}: not UTF-8 text at byte {error.start}",)) from None
    return ConfigFile(name=str(path), text=text, is_world_readable=bool(mode & stat.S_IROTH))


def _read_file(file: ConfigFile, layer: int) -> Iterator[Setting | Problem]:
    try:
        document = tomllib.loads(file.text)
    except tomllib.TOMLDecodeError as error:
        yield _syntax_problem(file, layer, str(error))
        return
    lines = find_lines(file.text)
    for path, value in _flatten(document):
        line = line_of(path, lines)
        name = file.name if line is None else f"{file.name}:{line}"
        origin = Origin(layer=layer, line=line or 0, name=name)
        yield Setting(path, value, origin, is_world_readable=file.is_world_readable)


def _syntax_problem(file: ConfigFile, layer: int, message: str) -> Problem:
    position_note = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = int(position_note[1]) if position_note else len(file.text.splitlines())
    sentence = message[: position_note.start()] if position_note else message
    origin = Origin(layer=layer, line=line, name=f"{file.name}:{line}")
    return Problem(origin, f"not valid TOML: {sentence[:1].lower()}{sentence[1:]}")


def _flatten(document: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], object]]:
    for section, content in document.items():
        if isinstance(content, dict):
            yield from (((section, key), value) for key, value in content.items())
        else:
            yield (section,), content


def _read_environment(environment: Mapping[str, str], layer: int) -> Iterator[Setting | Problem]:
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        origin = Origin(layer=layer, line=0, name=f"environment {name}")
        path = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        if len(path) == 2 and all(path):
            yield Setting(path, environment[name], origin, is_text=True)
        else:
            yield Problem(origin, f"must be named {ENVIRONMENT_PREFIX}SECTION__KEY")


def _read_overrides(overrides: Mapping[str, object], layer: int) -> Iterator[Setting]:
    origin = Origin(layer=layer, line=0, name="command line")
    for key, value in overrides.items():
        if value is not None:  # an option that was not given
            is_text = isinstance(value, str)
            yield Setting(tuple(key.split(".")), value, origin, is_text=is_text)
