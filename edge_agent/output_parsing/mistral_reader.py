"""Calls behind `[TOOL_CALLS]`: a list of objects, or a name, `[ARGS]` and an object. Pure."""

from __future__ import annotations

import re

from edge_agent.output_parsing.control_marks import (
    find_mark,
    may_become,
    starts_with_mark,
)
from edge_agent.output_parsing.json_call import MAX_NAME_CHARACTERS, ValueScanner
from edge_agent.output_parsing.json_call_reader import JsonCallReader

_OPENING, _ARGUMENTS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_NAME = re.compile(r"[\w.:/-]+")


class MistralReader(JsonCallReader):
    """See `JsonCallReader`."""

    def __init__(self) -> None:
        super().__init__()
        self._name = ""

    def _read_text(self) -> bool:
        return self._read_up_to(_OPENING, self._read_form)

    def _read_form(self) -> bool:
        rest = self._buffer.lstrip()
        if not rest:
            return False
        if rest.startswith("["):
            self._given_back += self._buffer[: len(self._buffer) - len(rest) + 1]
            self._buffer = rest[1:]
            self._state = self._read_element
            return True
        self._state = self._read_name
        return True

    def _read_element(self) -> bool:
        """Of a list."""
        rest = self._buffer.lstrip()
        if rest.startswith(","):
            rest = rest[1:].lstrip()
        if rest.startswith("{"):
            before = self._buffer[: len(self._buffer) - len(rest)]
            self._buffer = rest
            return self._begin_object(
                self._given_back + before, self._read_element, self._read_text
            )
        if not rest:
            return False
        if rest.startswith("]") and self._num_calls:
            self._buffer = rest[1:]
            self._given_back = ""
            self._state = self._read_text
            return True
        return self._leave()

    def _read_name(self) -> bool:
        rest = self._buffer.lstrip()
        match = _NAME.match(rest)
        if match is None or len(match[0]) > MAX_NAME_CHARACTERS:
            return self._leave()
        behind = rest[match.end() :]
        found = starts_with_mark(behind, (_ARGUMENTS, _ID))
        if found is None:
            if behind.lstrip().startswith("{"):
                return self._begin_arguments(match[0], behind.lstrip())
            return self._wait_or_leave(behind, (_ARGUMENTS, _ID))
        behind = behind[found.stop :].lstrip()
        if found.name == _ID:
            arguments = find_mark(behind, (_ARGUMENTS,))
            if arguments is None and len(behind) <= MAX_NAME_CHARACTERS + len(_ARGUMENTS):
                return False
            if arguments is None or arguments.start > MAX_NAME_CHARACTERS:
                return self._leave()
            behind = behind[arguments.stop :].lstrip()
        if behind.startswith("{"):
            return self._begin_arguments(match[0], behind)
        return self._wait_or_leave(behind, ())

    def _begin_arguments(self, name: str, buffer: str) -> bool:
        self._call(name)
        self._buffer = buffer
        self._scanner = ValueScanner()
        self._state = self._read_bare_arguments
        return True

    def _read_bare_arguments(self) -> bool:
        """With nothing around them."""
        end = self._scanner.scan(self._buffer)
        self._say("arguments", self._skip(len(self._buffer) if end is None else end))
        if end is None:
            return False
        self._state = self._read_text
        return True

    def _wait_or_leave(self, behind: str, wanted: tuple[str, ...]) -> bool:
        if not behind.strip() or may_become(behind, wanted):
            return False
        return self._leave()

    def _leave(self) -> bool:
        self._if_no_object = self._read_text
        return self._leave_object()

    def _finish(self) -> None:
        if self._state != self._read_bare_arguments:
            super()._finish()
