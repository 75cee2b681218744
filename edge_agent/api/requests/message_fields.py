"""The turns of a conversation, in the words of all dialects: text alone, in parts or whole.

This module must never put the text of a message into an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edge_agent.api.json_fields import kind_of, shown
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_CHAT_MESSAGES, ChatMessage
from shared.protocol.prompt_parts import MAX_PROMPT_BYTES

# In all messages together: each takes 0.5 us of the event loop.
MAX_TEXT_PARTS = 4096

# Templates of open models know "system" alone; "developer" is OpenAI's newer word for it.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_ROLES_OF_TOOLS = ("tool", "function")
_TEXT_TYPES = ("text", "input_text", "output_text")
_UNSUPPORTED = ("tool_calls", "function_call", "audio", "images")
# What is read, refused, or says nothing that a template could show.
_KNOWN = frozenset(
    {"role", "content", "type", "id", "status", "phase", "cache_control", *_UNSUPPORTED}
)
_NO_TOOLS = "not supported: what a tool was asked and said cannot be shown to the model yet"


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
    turns = tuple(_message(message, f"{name}[{i}]") for i, message in enumerate(messages))
    check_prompt_bytes(name, sum(len(turn.content.encode()) for turn in turns))
    return Turns(turns, _ignored(messages, name))


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
    return "\n".join(_text_part(part, f"{name}[{i}]") for i, part in enumerate(content))


def check_prompt_bytes(name: str, num_bytes: int) -> None:
    """A prompt of so many bytes may be sent.

    Raises:
        RequestRefused: it is too long.
    """
    if num_bytes > MAX_PROMPT_BYTES:
        raise RequestRefused(f"{name} of {num_bytes} bytes exceed {MAX_PROMPT_BYTES}", name)


def _message(message: object, name: str) -> ChatMessage:
    if not isinstance(message, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(message)}", name)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        known = ", ".join(_ROLES)
        reason = _NO_TOOLS if role in _ROLES_OF_TOOLS else f"must be one of {known}"
        raise RequestRefused(f"{name}.role = {shown(role)}: {reason}", f"{name}.role")
    for field in _UNSUPPORTED:
        if message.get(field):
            reason = "only text is read" if field in ("audio", "images") else _NO_TOOLS
            raise RequestRefused(f"{name}.{field}: {reason}", f"{name}.{field}")
    content = message.get("content")
    if content is None and role == "assistant":
        content = ""
    return ChatMessage(_ROLES[role], read_text(content, f"{name}.content"))


def _text_part(part: object, name: str) -> str:
    if not isinstance(part, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(part)}", name)
    if part.get("type") not in _TEXT_TYPES:
        sentence = f"{name}.type = {shown(part.get('type'))}: only text parts are supported"
        raise RequestRefused(sentence, f"{name}.type")
    text = part.get("text")
    if not isinstance(text, str):
        raise RequestRefused(f"{name}.text must be a string, not {kind_of(text)}", f"{name}.text")
    return text


def _ignored(messages: list[dict[str, Any]], name: str) -> tuple[str, ...]:
    """What says something in a message, such as a name, and is not shown to a model."""
    others = {
        key for message in messages for key in message.keys() - _KNOWN if message[key] is not None
    }
    return tuple(f"{name}.{key}" for key in sorted(others))
