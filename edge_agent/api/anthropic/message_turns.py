"""The turns of Anthropic's Messages API, where calls, results and thoughts are blocks of content.

This module must never put the text of a block into an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.api.json_fields import kind_of, read_field, shown
from edge_agent.api.requests.call_fields import arguments_text, read_function, read_short_text
from edge_agent.api.requests.message_fields import (
    MAX_TEXT_PARTS,
    Turns,
    finished_turns,
    read_messages,
    read_text,
    read_text_part,
)
from shared.errors import RequestRefused
from shared.protocol.messages import ChatMessage, ToolCall

_BLOCK_TYPES = ("tool_use", "tool_result", "thinking", "redacted_thinking")


def read_message_turns(fields: Mapping[str, Any]) -> Turns:
    """The conversation in `messages`; what tools said comes before the rest of its turn.

    Raises:
        RequestRefused: it is no list of messages, too long, or has a block of another type.
    """
    messages = fields.get("messages")
    if not isinstance(messages, list) or not any(map(_has_blocks, messages)):
        return read_messages(fields)
    num_blocks = sum(
        len(message["content"])
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
    )
    if num_blocks > MAX_TEXT_PARTS:
        raise RequestRefused(f"{num_blocks} blocks exceed {MAX_TEXT_PARTS}", "messages")
    turns: list[ChatMessage] = []
    ignored: dict[str, None] = {}
    for i, message in enumerate(messages):
        if _has_blocks(message):
            turns += _read_blocks(message, f"messages[{i}]")
        else:
            # Errors say which of all messages it is.
            read = _renamed(read_messages, message, f"messages[{i}]")
            turns += read.messages
            ignored |= dict.fromkeys(read.ignored)
    return finished_turns("messages", turns, tuple(ignored))


def _renamed(read: Any, message: Any, name: str) -> Turns:
    try:
        turns: Turns = read({"messages": [message]})
    except RequestRefused as error:
        said = str(error).replace("messages[0]", name)
        field = None if error.field is None else error.field.replace("messages[0]", name)
        raise RequestRefused(said, field) from error
    return turns


def _has_blocks(message: Any) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") in _BLOCK_TYPES for block in content
    )


def _read_blocks(message: dict[str, Any], name: str) -> list[ChatMessage]:
    role = message.get("role")
    if role not in ("user", "assistant"):
        field = f"{name}.role"
        raise RequestRefused(f"{field} = {shown(role)}: must be one of user, assistant", field)
    texts: list[Any] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    results: list[ChatMessage] = []
    for i, block in enumerate(message["content"]):
        of_block = f"{name}.content[{i}]"
        if not isinstance(block, dict):
            raise RequestRefused(f"{of_block} must be an object, not {kind_of(block)}", of_block)
        match block.get("type"):
            case "tool_use" if role == "assistant":
                given = {"name": block.get("name"), "arguments": block.get("input")}
                arguments_text(block.get("input"), f"{of_block}.input")
                calls.append(read_function(given, of_block, read_short_text(block, "id", of_block)))
            case "tool_result" if role == "user":
                results.append(_read_result(block, of_block))
            case "thinking" if role == "assistant":
                thoughts.append(read_field(block, "thinking", str, "", parent=f"{of_block}."))
            case "redacted_thinking" if role == "assistant":
                pass  # another model's, which only that one can read
            case "tool_use" | "tool_result" | "thinking" | "redacted_thinking":
                field = f"{of_block}.type"
                sentence = f"{field} = {shown(block['type'])}: not in a message of the {role}"
                raise RequestRefused(sentence, field)
            case _:
                texts.append(read_text_part(block, of_block))
    text = "\n".join(texts)
    if role == "assistant":
        return [ChatMessage(role, text, "\n".join(thoughts), tuple(calls))]
    return [*results, *([ChatMessage(role, text)] if texts else [])]


def _read_result(block: dict[str, Any], name: str) -> ChatMessage:
    content = block.get("content")
    text = read_text(content, f"{name}.content") if content else ""
    return ChatMessage("tool", text, tool_call_id=read_short_text(block, "tool_use_id", name))
