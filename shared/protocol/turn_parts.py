"""Chat messages that are cut into pieces for the wire, and put together again. Pure.

A piece of the role "" continues the message before it: its texts go on with the piece's, and so do
the arguments of its last call where the piece's call has no name.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.errors import RemoteProtocolError
from shared.protocol.messages import MAX_CHAT_MESSAGES, MAX_TOOL_CALLS, ChatMessage, ToolCall

_HEAD_BYTES = 44  # of a piece, and of a call in it, beside what its fields hold


def num_bytes(text: str) -> int:
    """Of a text on the wire."""
    return len(text.encode(errors="surrogatepass"))  # what cannot be sent is refused elsewhere


def turn_bytes(turn: ChatMessage) -> int:
    """Of a whole message, or more."""
    texts = num_bytes(turn.content) + num_bytes(turn.reasoning)
    names = num_bytes(turn.name) + num_bytes(turn.tool_call_id)
    return _HEAD_BYTES + texts + names + sum(map(_call_bytes, turn.tool_calls))


def turn_pieces(turn: ChatMessage, most_characters: int) -> Iterator[ChatMessage]:
    """Pieces of at most so many characters each, beside their heads; one of a short message."""
    if turn_bytes(turn) <= most_characters:
        yield turn
        return
    role, of_tool = turn.role, (turn.tool_call_id, turn.name)
    for content in characters(turn.content, most_characters):
        yield ChatMessage(role, content, "", (), *of_tool)
        role, of_tool = "", ("", "")
    if turn.reasoning:
        for reasoning in characters(turn.reasoning, most_characters):
            yield ChatMessage("", "", reasoning)
    for call in turn.tool_calls:
        call_id, name = call.call_id, call.name
        for arguments in characters(call.arguments, most_characters):
            yield ChatMessage("", "", "", (ToolCall(call_id, name, arguments),))
            call_id, name = "", ""


def characters(text: str, most: int) -> Iterator[str]:
    """The text in pieces of so many characters; one of an empty text."""
    for start in range(0, max(len(text), 1), most):
        yield text[start : start + most]


class TurnCollector:
    """Puts the pieces of all messages of one Open together; `add` them in order."""

    def __init__(self) -> None:
        self._turns: list[_Turn] = []

    @property
    def is_empty(self) -> bool:
        return not self._turns

    def add(self, piece: ChatMessage) -> None:
        """Take a message, or more of the one before.

        Raises:
            RemoteProtocolError: there is none before, or there are too many.
        """
        if piece.role:
            self._turns.append(_Turn(piece))
        elif self._turns:
            self._turns[-1].go_on(piece)
        else:
            raise RemoteProtocolError("the first chat message continues another one")
        if len(self._turns) > MAX_CHAT_MESSAGES:
            raise RemoteProtocolError(f"more than {MAX_CHAT_MESSAGES} chat messages")

    def whole(self) -> tuple[ChatMessage, ...]:
        """All messages."""
        return tuple(turn.whole() for turn in self._turns)


class _Turn:
    def __init__(self, first: ChatMessage) -> None:
        self._first = first
        self._contents: list[str] = []
        self._reasonings: list[str] = []
        self._calls: list[tuple[str, str, list[str]]] = []  # id, name, pieces of the arguments
        self.go_on(first)

    def go_on(self, piece: ChatMessage) -> None:
        self._contents.append(piece.content)
        self._reasonings.append(piece.reasoning)
        for call in piece.tool_calls:
            if call.name:
                self._calls.append((call.call_id, call.name, [call.arguments]))
            elif self._calls:
                self._calls[-1][2].append(call.arguments)
            else:
                raise RemoteProtocolError("the first call of a chat message continues another one")
        if len(self._calls) > MAX_TOOL_CALLS:
            raise RemoteProtocolError(f"more than {MAX_TOOL_CALLS} calls in a chat message")

    def whole(self) -> ChatMessage:
        return ChatMessage(
            self._first.role,
            "".join(self._contents),
            "".join(self._reasonings),
            tuple(ToolCall(i, name, "".join(pieces)) for i, name, pieces in self._calls),
            self._first.tool_call_id,
            self._first.name,
        )


def _call_bytes(call: ToolCall) -> int:
    texts = num_bytes(call.call_id) + num_bytes(call.name) + num_bytes(call.arguments)
    return _HEAD_BYTES + texts
