"""One call as a JSON object, read as far as it has come: `{"name": …, "arguments": {…}}`. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import msgspec

from edge_agent.output_parsing.control_marks import without_marks

MAX_NAME_CHARACTERS = 128
_NAME_KEYS = ("name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters")
_OTHER_KEYS = ("type", "id")
_SPACE = " \t\r\n"


class CallHead(NamedTuple):
    """A call whose arguments, an object, begin at this place of the text."""

    name: str
    arguments_at: int


class OtherForm(Exception):
    """The text does not begin as a call in the common order: name, then arguments."""


class _Unfinished(Exception):
    """More text is needed."""


def read_call_head(text: str, known_names: Collection[str] | None = None) -> CallHead | None:
    """The beginning of a call; None: it is not clear yet. With `known_names` no others will do.

    Raises:
        OtherForm: this is another object, or a call that says its arguments first.
    """
    cursor, name = _Cursor(text), ""
    try:
        cursor.expect("{")
        while True:
            key = cursor.string((*_NAME_KEYS, *_ARGUMENT_KEYS, *_OTHER_KEYS))
            cursor.expect(":")
            if key in _ARGUMENT_KEYS:
                if not name:
                    raise OtherForm
                return CallHead(name, cursor.peek("{"))
            value = cursor.string(known_names if key in _NAME_KEYS else None)
            if key in _NAME_KEYS:
                name = value
            cursor.expect(",")
    except _Unfinished:
        return None


def read_whole_call(text: str) -> tuple[str, str] | None:
    """Name and arguments of a complete object in whatever order; None: it is no call."""
    try:
        fields = msgspec.json.decode(without_marks(text), type=dict[str, msgspec.Raw])
        name: Any = _value(fields, _NAME_KEYS)
        if isinstance(name, dict):  # {"function": {"name": …, "arguments": …}}
            return read_whole_call(msgspec.json.encode(name).decode())
        raw = next((bytes(fields[key]).decode() for key in _ARGUMENT_KEYS if key in fields), "{}")
        if raw.startswith('"'):
            raw = msgspec.json.decode(raw, type=str)  # JSON as a text
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS:
        return None
    arguments = "{}" if raw.strip() in ("", "null") else raw.strip()
    return (name, arguments) if arguments.startswith("{") else None


class ValueScanner:
    """Finds the end of an object or list in JSON that comes in pieces; `scan` each once."""

    def __init__(self, depth: int = 0) -> None:
        """`depth`: how many objects and lists are open already."""
        self._depth = depth
        self._is_in_string = False
        self._is_escaped = False

    def scan(self, text: str) -> int | None:
        """Where in this piece the value has ended; None: it goes on."""
        for i, character in enumerate(text):
            if self._is_in_string:
                self._read_in_string(character)
            elif character == '"':
                self._is_in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return i + 1
        return None

    def _read_in_string(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._is_in_string = False


class _Cursor:
    """Reads a text from the left; each step raises where it ends too early or does not fit."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def peek(self, character: str) -> int:
        """The place of this character, which comes next behind any space."""
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1
        if self._at == len(self._text):
            raise _Unfinished
        if self._text[self._at] != character:
            raise OtherForm
        return self._at

    def expect(self, character: str) -> None:
        self._at = self.peek(character) + 1

    def string(self, among: Collection[str] | None) -> str:
        """A short string of JSON without escapes, one of these."""
        self.expect('"')
        end = self._text.find('"', self._at)
        said = self._text[self._at :] if end < 0 else self._text[self._at : end]
        if "\\" in said or "\n" in said or len(said) > MAX_NAME_CHARACTERS:
            raise OtherForm
        if end < 0:
            if among is not None and not any(word.startswith(said) for word in among):
                raise OtherForm
            raise _Unfinished
        if not said or (among is not None and said not in among):
            raise OtherForm
        self._at = end + 1
        return said


def _value(fields: dict[str, msgspec.Raw], keys: Collection[str]) -> Any:
    for key in keys:
        if key in fields:
            return msgspec.json.decode(fields[key])
    return None
