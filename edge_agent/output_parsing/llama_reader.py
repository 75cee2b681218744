"""Calls of Llama 3: an answer that is the JSON of a call, with `<|python_tag|>` before it or not.

Pure. Only the names of tools on offer are called: an answer may be JSON for other reasons.
"""

from __future__ import annotations

from collections.abc import Collection

from edge_agent.output_parsing.control_marks import (
    certain_length,
    find_mark,
    may_become,
    starts_with_mark,
)
from edge_agent.output_parsing.json_call_reader import JsonCallReader

_TAG = "<|python_tag|>"


class LlamaReader(JsonCallReader):
    """See `JsonCallReader`."""

    def __init__(self, known_names: Collection[str]) -> None:
        super().__init__(frozenset(known_names))
        self._state = self._read_start

    def _read_start(self) -> bool:
        """Where a call may stand: at the beginning, and behind another one."""
        rest = self._buffer.lstrip()
        if self._num_calls and rest.startswith((";", ",")):
            rest = rest[1:].lstrip()
        found = starts_with_mark(rest, (_TAG,))
        if found is not None:
            rest = rest[found.stop :].lstrip()
        if rest.startswith("{"):
            before = self._buffer[: len(self._buffer) - len(rest)]
            self._buffer = rest
            return self._begin_object(before, self._read_start, self._read_text)
        if not rest or (found is None and may_become(rest, (_TAG,))):
            return False
        if found is not None:
            self._buffer = rest  # a program for a tool that is not on offer is text
        self._state = self._read_text
        return True

    def _read_text(self) -> bool:
        found = find_mark(self._buffer, (_TAG,))
        end = certain_length(self._buffer, (_TAG,)) if found is None else found.start
        self._say_text(self._skip(end))
        if found is None:
            return False
        self._state = self._read_start
        return True
