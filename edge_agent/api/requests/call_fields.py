"""What tools were asked and said in the messages of a conversation, in the words of all dialects.

This module must never put the text of a message, an argument or a result into an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edge_agent.api.json_fields import kind_of, read_field
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_NAME_LENGTH, MAX_TOOL_CALLS, ChatMessage, ToolCall

_ShortText = Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


def read_calls(message: Mapping[str, Any], name: str) -> tuple[ToolCall, ...]:
    """The calls of an assistant's message, in OpenAI's words or Ollama's.

    Raises:
        RequestRefused: one of them is none, or there are too many.
    """
    listed: list[Any] = read_field(message, "tool_calls", list[Any], [], parent=f"{name}.")
    if len(listed) > MAX_TOOL_CALLS:
        field = f"{name}.tool_calls"
        raise RequestRefused(f"{field}: {len(listed)} calls exceed {MAX_TOOL_CALLS}", field)
    calls = [_read_call(call, f"{name}.tool_calls[{i}]") for i, call in enumerate(listed)]
    if message.get("function_call") is not None:  # OpenAI's word of old
        calls.append(read_function(message["function_call"], f"{name}.function_call"))
    return tuple(calls)


def read_function(function: Any, name: str, call_id: str = "") -> ToolCall:
    """A function's name and its arguments: an object, or its JSON as a text.

    Raises:
        RequestRefused: it is none.
    """
    if not isinstance(function, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(function)}", name)
    called = read_short_text(function, "name", name)
    if not called:
        raise RequestRefused(f"{name}.name must say which function was called", f"{name}.name")
    return ToolCall(call_id, called, arguments_text(function.get("arguments"), f"{name}.arguments"))


def arguments_text(arguments: Any, name: str) -> str:
    """The arguments of a call as JSON.

    Raises:
        RequestRefused: they are neither an object nor a text.
    """
    if arguments is None:
        return "{}"
    if isinstance(arguments, str):
        return arguments
    if isinstance(arguments, dict):
        return msgspec.json.encode(arguments).decode()
    sentence = f"{name} must be an object, or its JSON as a string, not {kind_of(arguments)}"
    raise RequestRefused(sentence, name)


def read_short_text(message: Mapping[str, Any], field: str, name: str) -> str:
    """A name or an id; "" where it is missing.

    Raises:
        RequestRefused: it is no text, or too long.
    """
    text: str = read_field(message, field, _ShortText, "", parent=f"{name}.")
    return text


def read_reasoning(message: Mapping[str, Any], name: str) -> str:
    """What the assistant thought, by the names of several servers.

    Raises:
        RequestRefused: it is no text.
    """
    for field in _REASONING_FIELDS:
        text: str = read_field(message, field, str, "", parent=f"{name}.")
        if text:
            return text
    return ""


def with_known_calls(turns: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The same turns, in which every call has an id, and every result that of its call.

    Results without an id answer in order, or by the name of their function; those without a name
    get that of the call.
    """
    known: dict[str, str] = {}  # from the id of a call to the function
    waiting: list[ToolCall] = []
    whole: list[ChatMessage] = []
    for turn in turns:
        if turn.tool_calls:
            waiting = _with_ids(turn.tool_calls, len(known))
            known |= {call.call_id: call.name for call in waiting}
            turn = msgspec.structs.replace(turn, tool_calls=tuple(waiting))
        elif turn.role == "tool":
            call_id = turn.tool_call_id or _answered(waiting, turn.name)
            waiting = [call for call in waiting if call.call_id != call_id]
            name = turn.name or known.get(call_id, "")
            turn = msgspec.structs.replace(turn, tool_call_id=call_id, name=name)
        whole.append(turn)
    return tuple(whole)


def _with_ids(calls: Iterable[ToolCall], num_before: int) -> list[ToolCall]:
    return [
        call if call.call_id else msgspec.structs.replace(call, call_id=f"call_{num_before + i}")
        for i, call in enumerate(calls)
    ]


def _answered(waiting: Sequence[ToolCall], name: str) -> str:
    """The id of the first call that may be meant."""
    return next((call.call_id for call in waiting if name in ("", call.name)), "")


def _read_call(call: Any, name: str) -> ToolCall:
    if not isinstance(call, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(call)}", name)
    call_id = read_short_text(call, "id", name)
    return read_function(call.get("function"), f"{name}.function", call_id)
