"""The input of OpenAI's Responses API: messages, and calls, results and thoughts as items between.

This module must never put the text of an item into an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edge_agent.api.json_fields import read_field, shown
from edge_agent.api.requests.call_fields import read_function, read_short_text
from edge_agent.api.requests.message_fields import (
    MAX_TEXT_PARTS,
    Turns,
    finished_turns,
    ignored_keys,
    read_message,
    read_messages,
    read_text,
)
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_TOOL_CALLS, ChatMessage

MAX_ITEMS = 4096

_ITEM_TYPES = ("function_call", "function_call_output", "reasoning")


def read_items(fields: Mapping[str, Any]) -> Turns:
    """The turns in `input`: calls belong to the turn of the assistant before them, or are one.

    Raises:
        RequestRefused: it is no list of items, too long, or has one of another type.
    """
    items = fields.get("input")
    if not isinstance(items, list) or not items or len(items) > MAX_ITEMS:
        return read_messages(fields, "input")
    parts = [item.get("content") for item in items if isinstance(item, dict)]
    num_parts = sum(len(content) for content in parts if isinstance(content, list))
    if num_parts > MAX_TEXT_PARTS:
        raise RequestRefused(f"{num_parts} text parts exceed {MAX_TEXT_PARTS}", "input")
    turns: list[ChatMessage] = []
    reasoning, may_go_on = "", False  # the assistant's last turn
    for i, item in enumerate(items):
        name, kind = f"input[{i}]", item.get("type") if isinstance(item, dict) else None
        if kind == "reasoning":
            reasoning, may_go_on = _thoughts(item, name), False
        elif kind == "function_call":
            if not may_go_on or reasoning:
                turns.append(ChatMessage("assistant", "", reasoning))
            turns[-1] = _with_call(turns[-1], item, name)
            reasoning, may_go_on = "", True
        elif kind == "function_call_output":
            turns.append(_result(item, name))
            may_go_on = False
        elif kind in (None, "message"):
            turn = read_message(item, name)
            may_go_on = turn.role == "assistant"
            turns.append(msgspec.structs.replace(turn, reasoning=reasoning if may_go_on else ""))
            reasoning = ""
        else:
            known = ", ".join(("message", *_ITEM_TYPES))
            sentence = f"{name}.type = {shown(kind)}: must be one of {known}"
            raise RequestRefused(sentence, f"{name}.type")
    messages = [item for item in items if item.get("type") in (None, "message")]
    return finished_turns("input", turns, ignored_keys(messages, "input"))


def _with_call(turn: ChatMessage, item: dict[str, Any], name: str) -> ChatMessage:
    call = read_function(item, name, read_short_text(item, "call_id", name))
    if len(turn.tool_calls) == MAX_TOOL_CALLS:
        raise RequestRefused(f"more than {MAX_TOOL_CALLS} calls in one turn", name)
    return msgspec.structs.replace(turn, tool_calls=(*turn.tool_calls, call))


def _result(item: dict[str, Any], name: str) -> ChatMessage:
    output = item.get("output")
    text = read_text(output, f"{name}.output") if output else ""
    return ChatMessage("tool", text, tool_call_id=read_short_text(item, "call_id", name))


def _thoughts(item: dict[str, Any], name: str) -> str:
    """What is readable of a reasoning item; most clients keep the summary alone."""
    for field in ("content", "summary"):
        parts: list[dict[str, Any]] = read_field(
            item, field, list[dict[str, Any]], [], parent=f"{name}."
        )
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        if texts:
            return "\n".join(texts)
    return ""
