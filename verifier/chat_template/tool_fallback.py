"""Tools for a template that knows none: told in the system's words, as Hermes' models learned them.

So does llama-server, in other words. Pure; texts are the client's, and stay such.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from shared.protocol.messages import ChatMessage

_WORDS = """\
You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{signatures}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def without_tool_turns(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The same talk in turns of text alone: calls and what came of them are written out."""
    turns: list[ChatMessage] = []
    is_answer = False  # the last turn is what a tool said
    for message in messages:
        if message.role == "tool":
            text = f"<tool_response>\n{message.content}\n</tool_response>"
            if is_answer:
                text = f"{turns.pop().content}\n{text}"
            turns.append(ChatMessage("user", text))
        else:
            calls = [_written(call.name, call.arguments) for call in message.tool_calls]
            text = "\n".join(filter(None, [message.content, *calls]))
            turns.append(msgspec.structs.replace(message, content=text, tool_calls=()))
        is_answer = message.role == "tool"
    return tuple(turns)


def with_tools_told(
    messages: Sequence[ChatMessage], tools: Sequence[Any], *, by_system: bool
) -> tuple[ChatMessage, ...]:
    """The same talk, with the tools in its system message or else in front of its first turn."""
    signatures = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    words = _WORDS.format(signatures=signatures)
    first, *rest = messages
    if first.role == "system":
        told = msgspec.structs.replace(first, content=f"{first.content}\n\n{words}")
        return (told, *rest) if by_system else _before_the_first(told.content, rest)
    if by_system:
        return (ChatMessage("system", words), *messages)
    return _before_the_first(words, messages)


def _before_the_first(words: str, messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Some templates refuse a system message."""
    if not messages:
        return (ChatMessage("user", words),)
    first, *rest = messages
    return (msgspec.structs.replace(first, content=f"{words}\n\n{first.content}"), *rest)


def _written(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {arguments}}}\n</tool_call>'
