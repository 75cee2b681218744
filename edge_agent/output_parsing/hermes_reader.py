"""Calls between `<tool_call>` and `</tool_call>`: Hermes, Qwen 2.5 and 3, and Qwen3-Coder's XML.

Pure. In the XML a value is typed by the schema of its tool: what is no text there is read as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from edge_agent.output_parsing.control_marks import (
    may_become,
    starts_with_mark,
    without_marks,
)
from edge_agent.output_parsing.json_call import MAX_NAME_CHARACTERS
from edge_agent.output_parsing.json_call_reader import JsonCallReader

_OPENING, _CLOSING = "<tool_call>", "</tool_call>"
_FUNCTION, _PARAMETER = "<function=", "<parameter="
_FUNCTION_END, _PARAMETER_END = "</function>", "</parameter>"

Schemas = Mapping[str, Mapping[str, Any]]  # of parameters, by the name of their tool


class HermesReader(JsonCallReader):
    """See `JsonCallReader`."""

    def __init__(self, schemas: Schemas) -> None:
        super().__init__()
        self._schemas = schemas
        self._properties: Mapping[str, Any] = {}
        self._num_parameters = 0

    def _read_text(self) -> bool:
        return self._read_up_to(_OPENING, self._read_form)

    def _read_form(self) -> bool:
        """Behind the opening."""
        rest = self._buffer.lstrip()
        if rest.startswith("{"):
            return self._begin_object(self._given_back, self._read_closing, self._read_text)
        if rest.startswith(_FUNCTION):
            return self._read_function(rest)
        if not rest or may_become(rest, (_FUNCTION,)):
            return False
        return self._leave_object()

    def _read_closing(self) -> bool:
        rest = self._buffer.lstrip()
        found = starts_with_mark(rest, (_CLOSING,))
        if found is not None:
            self._buffer = rest[found.stop :]
        elif rest.startswith("{"):  # another call in the same marks
            return self._begin_object("", self._read_closing, self._read_text)
        elif not rest or may_become(rest, (_CLOSING,)):
            return False
        self._state = self._read_text
        return True

    def _read_function(self, rest: str) -> bool:
        end = rest.find(">")
        name = rest[len(_FUNCTION) : end if end >= 0 else None].strip("\"' ")
        if len(name) > MAX_NAME_CHARACTERS or "\n" in name or (end >= 0 and not name):
            return self._leave_function()
        if end < 0:
            return False
        self._buffer = rest[end + 1 :]
        properties = self._schemas.get(name, {}).get("properties")
        self._properties = properties if isinstance(properties, dict) else {}
        self._num_parameters = 0
        self._call(name, "{")
        self._state = self._read_parameters
        return True

    def _leave_function(self) -> bool:
        self._if_no_object = self._read_text
        return self._leave_object()

    def _read_parameters(self) -> bool:
        rest = self._buffer.lstrip()
        match = re.match(rf"{_PARAMETER}([^>\n]+)>", rest)
        if match is not None:
            end = rest.find(_PARAMETER_END)
            if end < 0:
                return False
            self._say_parameter(match[1].strip("\"' "), rest[match.end() : end])
            self._buffer = rest[end + len(_PARAMETER_END) :]
            return True
        if rest.startswith(_PARAMETER) or not rest or may_become(rest, _XML_NEXT):
            return False
        if rest.startswith(_FUNCTION_END):
            self._buffer = rest[len(_FUNCTION_END) :]
        self._say("arguments", "}")
        self._state = self._read_closing
        return True

    def _say_parameter(self, key: str, text: str) -> None:
        value = _typed(without_marks(text), self._properties.get(key))
        comma = ", " if self._num_parameters else ""
        self._num_parameters += 1
        self._say("arguments", f"{comma}{json.dumps(key, ensure_ascii=False)}: {value}")

    def _finish(self) -> None:
        if self._state != self._read_parameters:
            super()._finish()


_XML_NEXT = (_PARAMETER, _FUNCTION_END)


def _typed(text: str, schema: Any) -> str:
    """A value as JSON."""
    text = text.removeprefix("\n").removesuffix("\n")
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind != "string":
        try:
            return json.dumps(msgspec.json.decode(text), ensure_ascii=False)
        except (msgspec.DecodeError, RecursionError):
            pass
    return json.dumps(text, ensure_ascii=False)
