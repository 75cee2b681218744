"""Chat messages and tools as templates know them, with every text of a client's rewritten.

Pure. Rewriting is what keeps a text from becoming a control token; which rewriting that is, is for
`chat_encoder` to say. Words of JSON schemas stay as they are: templates choose by them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from shared.errors import RequestRefused
from shared.protocol.messages import ChatMessage

MAX_DEPTH = 64  # of lists and objects in each other

# From the role of the message that a text is in, "" of none, and the text.
Rewrite = Callable[[str, str], str]

_KEPT_WORDS = frozenset(
    {
        *("function", "name", "description", "parameters", "strict", "response", "return"),
        *("type", "properties", "required", "items", "enum", "const", "default", "format"),
        *("nullable", "anyOf", "oneOf", "allOf", "additionalProperties", "title", "$defs", "$ref"),
        *("object", "array", "string", "number", "integer", "boolean", "null"),
    }
)
_MISTRAL_ID_CHARACTERS = 9
# A text is read over as a whole, with nothing in the group; one without an end, to the very end, so
# that no part is read twice.
_BRACKETS_OR_TEXT = re.compile(r'"(?:[^"\\]|\\.?)*+(?:"|\Z)|([][{}])', re.DOTALL)


class ChatShape(msgspec.Struct, frozen=True):
    """What a template expects that others do not."""

    has_text_arguments: bool = False  # of calls: JSON text, where others take objects
    has_short_ids: bool = False  # of calls: Mistral's, of 9 letters and digits


def template_messages(
    messages: Sequence[ChatMessage], rewrite: Rewrite, shape: ChatShape
) -> list[dict[str, Any]]:
    """The messages, each with the fields that it has."""
    return [_template_message(message, rewrite, shape) for message in messages]


def template_tools(tools: Sequence[Any], rewrite: Rewrite) -> list[Any]:
    """The tools, with all of their texts rewritten but the words of schemas."""
    return [_rewritten(tool, "", rewrite) for tool in tools]


def read_tools(packed: bytes) -> list[Any]:
    """The tools of an Open.

    Raises:
        RequestRefused: they are no JSON list, or too deep.
    """
    if not packed:
        return []
    try:
        text = packed.decode()
        tools: list[Any] = msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestRefused(f"tools are no list of JSON objects: {error}", "tools") from error
    if (depth := depth_of(tools)) > MAX_DEPTH:
        raise RequestRefused(f"tools of depth {depth} exceed {MAX_DEPTH}", "tools")
    return tools


def depth_of(value: Any) -> int:
    """How deep lists and objects stand in each other."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return depth


def json_depth(json_text: str) -> int:
    """How deep lists and objects stand in each other; brackets inside texts do not count.

    One by one: `findall` keeps the interpreter for all of a long text.
    """
    depth = deepest = 0
    for found in _BRACKETS_OR_TEXT.finditer(json_text):
        if bracket := found[1]:
            depth += 1 if bracket in "[{" else -1
            deepest = max(deepest, depth)
    return deepest


def _template_message(message: ChatMessage, rewrite: Rewrite, shape: ChatShape) -> dict[str, Any]:
    role = message.role
    told: dict[str, Any] = {"role": role, "content": rewrite(role, message.content)}
    if message.reasoning:
        # The names in templates of Qwen and DeepSeek, of gpt-oss, of Gemma.
        reasoning = rewrite(role, message.reasoning)
        told |= dict.fromkeys(("reasoning_content", "thinking", "reasoning"), reasoning)
    if message.tool_calls:
        told["tool_calls"] = [
            {
                "id": _shown_id(call.call_id, rewrite, shape),
                "type": "function",
                "function": {
                    "name": rewrite("", call.name),
                    "arguments": _arguments(call.arguments, rewrite, shape),
                },
            }
            for call in message.tool_calls
        ]
    if role == "tool":
        told["tool_call_id"] = _shown_id(message.tool_call_id, rewrite, shape)
        told["name"] = rewrite("", message.name)
    return told


def _shown_id(call_id: str, rewrite: Rewrite, shape: ChatShape) -> str:
    if not shape.has_short_ids:
        return rewrite("", call_id)
    if len(call_id) == _MISTRAL_ID_CHARACTERS and call_id.isascii() and call_id.isalnum():
        return call_id
    return hashlib.blake2b(call_id.encode(), digest_size=8).hexdigest()[:_MISTRAL_ID_CHARACTERS]


def _arguments(arguments: str, rewrite: Rewrite, shape: ChatShape) -> Any:
    """An object, as most templates expect it; what is none stays the text that it is."""
    if shape.has_text_arguments or json_depth(arguments) > MAX_DEPTH:
        return rewrite("", arguments)
    try:
        value = msgspec.json.decode(arguments) if arguments.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        return rewrite("", arguments)
    return _rewritten(value, "", rewrite) if isinstance(value, dict) else rewrite("", arguments)


def _rewritten(value: object, role: str, rewrite: Rewrite) -> object:
    match value:
        case str():
            return value if value in _KEPT_WORDS else rewrite(role, value)
        case list():
            return [_rewritten(item, role, rewrite) for item in value]
        case Mapping():
            return _with_unique_keys(
                [
                    (_rewritten(key, role, rewrite), _rewritten(item, role, rewrite))
                    for key, item in value.items()
                ]
            )
        case _:
            return value


def _with_unique_keys(items: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """Keys that were rewritten to the same text are numbered, so that none is lost."""
    unique: dict[str, Any] = {}
    for key, item in items:
        unique[f"{key}{len(unique)}" if key in unique else key] = item
    return unique
