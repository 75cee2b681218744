"""The turns of a conversation, in the words of all dialects: text alone, in parts or whole.

This module must never put the text of a message into an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from edge_agent.api.json_fields import kind_of, shown
from edge_agent.api.requests.call_fields import (
    read_calls,
    read_reasoning,
    read_short_text,
    with_known_calls,
)
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_CHAT_MESSAGES, ChatMessage
from shared.protocol.prompt_parts import MAX_PROMPT_BYTES

# In all messages together: each takes 0.5 us of the event loop.
MAX_TEXT_PARTS = 4096

# Templates of open models know "system" alone; "developer" is OpenAI's newer word for it.
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Where a part of a type has its text; a refusal is what the assistant said.
_TEXT_KEYS = {
    **dict.fromkeys(("text", "input_text", "output_text"), "text"),
    "refusal": "refusal",
}
_UNSUPPORTED = ("audio", "images")
_OF_TOOLS = ("tool_calls", "function_call", "tool_call_id", "tool_name")
_OF_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
# What is read, refused, or says nothing that a template could show.
_KNOWN = frozenset(
    {
        *("role", "content", "type", "id", "status", "phase", "cache_control", "refusal"),
        *("annotations", *_UNSUPPORTED, *_OF_TOOLS, *_OF_THOUGHTS),
    }
)


class Turns(msgspec.Struct, frozen=True):
    """The messages of one request, and the names of what was left out of them."""

    messages: tuple[ChatMessage, ...]
    ignored: tuple[str, ...] = ()


def read_messages(fields: Mapping[str, Any], name: str = "messages") -> Turns:
    """The conversation in the field; errors name the message.

    Raises:
        RequestRefused: it is no list of messages, too long, or not of text alone.
    """
    messages = fields.get(name)
    if not isinstance(messages, list) or not messages:
        raise RequestRefused(
            f"{name} must be a list of one message or more, not {kind_of(messages)}", name
        )
    if len(messages) > MAX_CHAT_MESSAGES:
        raise RequestRefused(f"{len(messages)} messages exceed {MAX_CHAT_MESSAGES}", name)
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    num_parts = sum(len(content) for content in contents if isinstance(content, list))
    if num_parts > MAX_TEXT_PARTS:
        raise RequestRefused(f"{num_parts} text parts exceed {MAX_TEXT_PARTS}", name)
    turns = [read_message(message, f"{name}[{i}]") for i, message in enumerate(messages)]
    return finished_turns(name, turns, ignored_keys(messages, name))


def finished_turns(name: str, turns: Sequence[ChatMessage], ignored: tuple[str, ...] = ()) -> Turns:
    """The turns of the field with this name, calls and results put together.

    Raises:
        RequestRefused: they are too long, or too many.
    """
    if len(turns) > MAX_CHAT_MESSAGES:
        raise RequestRefused(f"{len(turns)} messages exceed {MAX_CHAT_MESSAGES}", name)
    check_prompt_bytes(name, sum(len(text.encode()) for turn in turns for text in _texts(turn)))
    return Turns(with_known_calls(turns), ignored)


def read_text(content: object, name: str) -> str:
    """A text, or the text of parts.

    Raises:
        RequestRefused: it is neither, or a part is not text.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise RequestRefused(
            f"{name} must be a string or a list of text parts, not {kind_of(content)}", name
        )
    # Joined as llama-server and vLLM join them.
    return "\n".join(read_text_part(part, f"{name}[{i}]") for i, part in enumerate(content))


def read_text_part(part: object, name: str) -> str:
    """The text of one part; raises as `read_text`."""
    if not isinstance(part, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(part)}", name)
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _TEXT_KEYS:
        sentence = f"{name}.type = {shown(kind)}: only text parts are supported"
        raise RequestRefused(sentence, f"{name}.type")
    key = _TEXT_KEYS[kind]
    text = part.get(key)
    if not isinstance(text, str):
        raise RequestRefused(f"{name}.{key} must be a string, not {kind_of(text)}", f"{name}.{key}")
    return text


def check_prompt_bytes(name: str, num_bytes: int) -> None:
    """A prompt of so many bytes may be sent.

    Raises:
        RequestRefused: it is too long.
    """
    if num_bytes > MAX_PROMPT_BYTES:
        raise RequestRefused(f"{name} of {num_bytes} bytes exceed {MAX_PROMPT_BYTES}", name)


def read_message(message: object, name: str) -> ChatMessage:
    """One message, not yet put together with the others.

    Raises:
        RequestRefused: it is none, or not of text alone.
    """
    if not isinstance(message, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(message)}", name)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        reason = f"must be one of {', '.join(_ROLES)}"
        raise RequestRefused(f"{name}.role = {shown(role)}: {reason}", f"{name}.role")
    for field in _UNSUPPORTED:
        if message.get(field):
            raise RequestRefused(f"{name}.{field}: only text is read", f"{name}.{field}")
    content = message.get("content")
    says_nothing = "content" in message and _ROLES[role] != "tool"  # by null
    if content is None and (role == "assistant" or says_nothing):
        content = ""
    text = read_text(content, f"{name}.content") if content != [] or role != "assistant" else ""
    match _ROLES[role]:
        case "assistant":
            calls, reasoning = read_calls(message, name), read_reasoning(message, name)
            return ChatMessage("assistant", text, reasoning, calls)
        case "tool":
            tool = read_short_text(message, "tool_name", name)
            tool = tool or read_short_text(message, "name", name)
            call_id = read_short_text(message, "tool_call_id", name)
            return ChatMessage("tool", text, tool_call_id=call_id, name=tool)
        case known:
            return ChatMessage(known, text)


def _texts(turn: ChatMessage) -> Iterator[str]:
    yield from (turn.content, turn.reasoning)
    yield from (call.arguments for call in turn.tool_calls)


def ignored_keys(messages: list[dict[str, Any]], name: str) -> tuple[str, ...]:
    """What says something in a message, such as a name, and is not shown to a model."""
    others = {
        key
        for message in messages
        for key in message.keys() - _KNOWN
        if message[key] is not None and (key, _ROLES[message["role"]]) != ("name", "tool")
    }
    return tuple(f"{name}.{key}" for key in sorted(others))
