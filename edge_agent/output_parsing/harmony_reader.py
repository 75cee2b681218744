"""The messages of gpt-oss: a header with channel and recipient, a body, and the next header. Pure.

The channel `analysis` is thoughts, `final` and `commentary` are text, and what is for a recipient
is the arguments of a call.
"""

from __future__ import annotations

import re

from edge_agent.output_parsing.buffered_reader import BufferedReader
from edge_agent.output_parsing.control_marks import (
    certain_length,
    find_mark,
    may_become,
    starts_with_mark,
)
from edge_agent.output_parsing.said import Part

_START, _CHANNEL, _BODY = "<|start|>", "<|channel|>", "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>", _START, _CHANNEL)
# What a header begins with, other than one of its marks: the role was in the prompt.
_HEADER_WORDS = ("assistant", "to=")
_RECIPIENT = re.compile(r"to=([\w.:/-]+)")
_NAMESPACE = "functions."
_MAX_HEADER_CHARACTERS = 512


class HarmonyReader(BufferedReader):
    """Says all parts."""

    def __init__(self, *, tells_calls: bool) -> None:
        """Without `tells_calls` they are text."""
        super().__init__()
        self._tells_calls = tells_calls
        self._is_in_body = False
        self._part: Part = "text"

    @property
    def is_reasoning(self) -> bool:
        """Whether what comes next is a thought, or a header behind one."""
        return self._part == "reasoning"

    def _step(self) -> bool:
        return self._read_body() if self._is_in_body else self._read_header()

    def _read_header(self) -> bool:
        found = find_mark(self._buffer, (_BODY,))
        if found is None and self._may_be_header():
            return False
        self._is_in_body, self._part = True, "text"
        if found is None or not self._is_header(self._buffer[: found.start]):
            mark = starts_with_mark(self._buffer, (_START, _CHANNEL))
            self._skip(0 if mark is None else mark.stop)
            return True
        channel, *names = self._header(self._skip(found.stop)[: found.start])
        self._part = "reasoning" if channel == "analysis" else "text"
        if names and self._tells_calls:
            self._part = "arguments"
            self._say("call", names[0])
        return True

    def _header(self, text: str) -> list[str]:
        """The channel, and the function that is called if there is one."""
        marked = find_mark(text, (_CHANNEL,))
        said = text[marked.stop :].split() if marked is not None else []
        channel = re.match(r"\w*", said[0] if said else "")
        recipient = _RECIPIENT.search(text)
        names = [] if recipient is None else [recipient[1].removeprefix(_NAMESPACE)]
        return [channel[0] if channel is not None else "", *filter(None, names)]

    def _is_header(self, text: str) -> bool:
        text = text.lstrip()
        if len(text) > _MAX_HEADER_CHARACTERS:
            return False
        mark = starts_with_mark(text, (_START, _CHANNEL))
        return mark is not None or not text or text.startswith(_HEADER_WORDS)

    def _may_be_header(self) -> bool:
        text = self._buffer.lstrip()
        if len(text) > _MAX_HEADER_CHARACTERS + len(_BODY):
            return False
        mark = starts_with_mark(text, (_START, _CHANNEL))
        is_begun = mark is not None or not text or text.startswith(_HEADER_WORDS)
        return is_begun or may_become(text, (*_HEADER_WORDS, _START, _CHANNEL, _BODY))

    def _read_body(self) -> bool:
        found = find_mark(self._buffer, _ENDS)
        end = certain_length(self._buffer, _ENDS) if found is None else found.start
        self._say(self._part, self._skip(end))
        if found is None:
            return False
        if found.name not in (_START, _CHANNEL):
            self._skip(found.stop - found.start)
        self._is_in_body = False
        return True

    def _finish(self) -> None:
        if self._is_in_body:
            self._say(self._part, self._buffer)
        elif not find_mark(self._buffer, (_START, _CHANNEL)):
            self._say("text", self._buffer)
