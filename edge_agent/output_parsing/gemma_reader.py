"""Calls of Gemma 4: `call:name{key:value}` between two marks, strings between marks too. Pure.

The arguments are told at the end of the call, as JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any

from edge_agent.output_parsing.control_marks import find_mark, starts_with_mark
from edge_agent.output_parsing.json_call import MAX_NAME_CHARACTERS
from edge_agent.output_parsing.json_call_reader import JsonCallReader

_OPENING, _CLOSING, _QUOTE = "<|tool_call>", "<tool_call|>", '<|"|>'
_CALL = re.compile(r"\s*call:([\w.:-]+)\s*(?=\{)")
_WORD = re.compile(r"[^,:{}\[\]\s]+")
_MAX_DEPTH = 64


class GemmaReader(JsonCallReader):
    """See `JsonCallReader`."""

    def _read_text(self) -> bool:
        return self._read_up_to(_OPENING, self._read_call)

    def _read_call(self) -> bool:
        found = find_mark(self._buffer, (_CLOSING,))
        if found is None:
            return False
        call = _read_call(self._buffer[: found.start])
        if call is None:
            self._if_no_object = self._read_text
            return self._leave_object()
        self._skip(found.stop)
        self._call(*call)
        self._state = self._read_text
        return True


def _read_call(text: str) -> tuple[str, str] | None:
    match = _CALL.match(text)
    if match is None or len(match[1]) > MAX_NAME_CHARACTERS:
        return None
    values = _Values(text[match.end() :].rstrip())
    try:
        arguments = values.read(0)
    except ValueError:
        return None
    if values.is_over and isinstance(arguments, dict):
        return match[1], json.dumps(arguments, ensure_ascii=False)
    return None


class _Values:
    """Values with bare keys; each step raises ValueError where the text is none."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at == len(self._text)

    def read(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError
        if self._takes("{"):
            return dict(self._items("}", depth, has_keys=True))
        if self._takes("["):
            return [value for _, value in self._items("]", depth, has_keys=False)]
        quoted = self._quoted()
        return _plain(self._word()) if quoted is None else quoted

    def _items(self, end: str, depth: int, *, has_keys: bool) -> list[tuple[str, Any]]:
        items: list[tuple[str, Any]] = []
        while not self._takes(end):
            if items and not self._takes(","):
                raise ValueError
            key = ""
            if has_keys:
                quoted = self._quoted()
                key = self._word() if quoted is None else quoted
                if not self._takes(":"):
                    raise ValueError
            items.append((key, self.read(depth + 1)))
        return items

    def _takes(self, character: str) -> bool:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        is_next = self._text.startswith(character, self._at)
        self._at += len(character) if is_next else 0
        return is_next

    def _quoted(self) -> str | None:
        rest = self._text[self._at :]
        opening = starts_with_mark(rest, (_QUOTE,))
        if opening is None:
            return None
        closing = find_mark(rest[opening.stop :], (_QUOTE,))
        if closing is None:
            raise ValueError
        self._at += opening.stop + closing.stop
        return rest[opening.stop : opening.stop + closing.start]

    def _word(self) -> str:
        self._takes("")
        match = _WORD.match(self._text, self._at)
        if match is None:
            raise ValueError
        self._at = match.end()
        return match[0]


def _plain(word: str) -> Any:
    """A number, true, false or null; any other word is a text."""
    try:
        value = json.loads(word)
    except ValueError:
        return word
    return value if value is None or isinstance(value, bool | int | float) else word
