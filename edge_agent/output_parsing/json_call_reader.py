"""What the readers of calls in JSON share: one object after the other, its arguments as they come.

Pure. What is no call in the end is given back as the text that it is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection

from edge_agent.output_parsing.buffered_reader import BufferedReader
from edge_agent.output_parsing.control_marks import certain_length, find_mark
from edge_agent.output_parsing.json_call import (
    OtherForm,
    ValueScanner,
    read_call_head,
    read_whole_call,
)

State = Callable[[], bool]


class JsonCallReader(BufferedReader):
    """A reader with states; `_begin_object` reads a call at the beginning of the buffer.

    Until its first text, or behind a call, space waits: it is said with text, and not before a
    call.
    """

    def __init__(self, known_names: Collection[str] | None = None) -> None:
        """`known_names`: only these are called, and an object must begin as such a call."""
        super().__init__()
        self._known_names = known_names
        self._state: State = self._read_text
        self._has_spoken = False  # text since the beginning or the last call
        self._num_calls = 0
        self._given_back = ""  # before the buffer, if it turns out to be no call
        self._scanner = ValueScanner()
        self._scanned = 0  # characters of the buffer
        self._after_object: State = self._read_text
        self._if_no_object: State = self._read_text

    def _step(self) -> bool:
        return self._state()

    @abstractmethod
    def _read_text(self) -> bool:
        """Read on where no call has begun."""

    def _read_up_to(self, opening: str, behind: State) -> bool:
        """Say the text before this mark, and go on behind it."""
        found = find_mark(self._buffer, (opening,))
        end = certain_length(self._buffer, (opening,)) if found is None else found.start
        if not self._has_spoken and not self._buffer[:end].strip():
            if found is None:
                return False  # nothing but space yet
            self._skip(end)
        else:
            self._say_text(self._skip(end))
        if found is None:
            return False
        self._skip(found.stop - found.start)
        self._given_back = opening
        self._state = behind
        return True

    def _finish(self) -> None:
        """What was not clear yet is text; arguments that were cut off stay so."""
        inside = (self._read_arguments, self._read_rest, self._read_other_fields)
        if self._state not in inside:
            self._give_back(self._buffer)

    def _say_text(self, text: str) -> None:
        if text:
            self._has_spoken = True
            self._say("text", text)

    def _give_back(self, text: str) -> None:
        text, self._given_back = self._given_back + text, ""
        if text.strip() or not self._num_calls or self._has_spoken:
            self._say_text(text)

    def _call(self, name: str, arguments: str = "") -> None:
        self._num_calls += 1
        self._has_spoken = False
        self._given_back = ""
        self._say("call", name)
        self._say("arguments", arguments)

    def _begin_object(self, given_back: str, after: State, otherwise: State) -> bool:
        """Read an object; `given_back` stood before it."""
        self._given_back = given_back
        self._after_object, self._if_no_object = after, otherwise
        self._state = self._read_head
        return True

    def _read_head(self) -> bool:
        try:
            head = read_call_head(self._buffer, self._known_names)
        except OtherForm:
            self._scanner, self._scanned = ValueScanner(), 0
            self._state = self._read_whole if self._known_names is None else self._leave_object
            return True
        if head is None:
            return False
        self._call(head.name)
        self._skip(head.arguments_at)
        self._scanner = ValueScanner()
        self._state = self._read_arguments
        return True

    def _read_arguments(self) -> bool:
        end = self._scanner.scan(self._buffer)
        self._say("arguments", self._skip(len(self._buffer) if end is None else end))
        if end is None:
            return False
        self._state = self._read_rest
        return True

    def _read_rest(self) -> bool:
        """Of the object around the arguments; small models forget to close it."""
        rest = self._buffer.lstrip()
        if not rest:
            return False
        if rest.startswith(","):
            self._scanner = ValueScanner(depth=1)
            self._state = self._read_other_fields
            return True
        self._buffer = rest.removeprefix("}")
        self._state = self._after_object
        return True

    def _read_other_fields(self) -> bool:
        """They are no arguments."""
        end = self._scanner.scan(self._buffer)
        self._skip(len(self._buffer) if end is None else end)
        if end is None:
            return False
        self._state = self._after_object
        return True

    def _read_whole(self) -> bool:
        if not self._buffer.lstrip().startswith("{"):
            self._state = self._leave_object
            return True
        end = self._scanner.scan(self._buffer[self._scanned :])
        if end is None:
            self._scanned = len(self._buffer)
            return False
        end += self._scanned
        call = read_whole_call(self._buffer[:end])
        if call is None:
            self._state = self._leave_object
            return True
        self._skip(end)
        self._call(*call)
        self._state = self._after_object
        return True

    def _leave_object(self) -> bool:
        """It is no call: what stood before it is text, and so is all of it."""
        self._give_back("")
        self._state = self._if_no_object
        return True
