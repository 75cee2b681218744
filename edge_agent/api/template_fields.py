"""What a client asks of the chat template, in the words of vLLM, OpenAI, Anthropic and DeepSeek.

This module must never look at a template: only the verifier has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from edge_agent.api.json_fields import read_field
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_TEMPLATE_BYTES, PLAIN_TEMPLATE, TemplateOptions

_Thinking = Literal["enabled", "disabled", "adaptive"]
_ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


def read_template_options(fields: Mapping[str, Any]) -> TemplateOptions:
    """`chat_template_kwargs`, `reasoning_effort`, `thinking` and how the last message is meant.

    Without a word the assistant's next turn begins, whatever the last message is.

    Raises:
        RequestRefused: a field is of a wrong type, too long, or contradicts another.
    """
    continues: bool = read_field(fields, "continue_final_message", bool, False)
    adds: bool = read_field(fields, "add_generation_prompt", bool, not continues)
    if continues and adds:
        raise RequestRefused(
            "continue_final_message goes on in the last message and add_generation_prompt begins "
            "another one: only one of them can be true",
            "continue_final_message",
        )
    arguments = _arguments(fields)
    if not arguments and adds:
        return PLAIN_TEMPLATE
    encoded = msgspec.json.encode(arguments).decode() if arguments else ""
    if (num_bytes := len(encoded.encode())) > MAX_TEMPLATE_BYTES:
        sentence = f"chat_template_kwargs of {num_bytes} bytes exceed {MAX_TEMPLATE_BYTES}"
        raise RequestRefused(sentence, "chat_template_kwargs")
    return TemplateOptions(encoded, adds, continues)


def _arguments(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are named stand above what the effort means for a template."""
    given: dict[str, Any] = read_field(fields, "chat_template_kwargs", dict[str, Any], {})
    effort: str | None = read_field(fields, "reasoning_effort", _ReasoningEffort)
    asked = _thinking(fields)
    if effort is not None:
        # Templates that know no effort know whether to think (Qwen3).
        asked |= {"enable_thinking": False} if effort == "none" else {}
        asked = {"reasoning_effort": effort, **asked}
    return {**asked, **given}


def _thinking(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`thinking` says whether to think; how many tokens it may take is not followed."""
    thinking: bool | dict[str, Any] = read_field(fields, "thinking", bool | dict[str, Any], {})
    if isinstance(thinking, bool):
        return {"enable_thinking": thinking}
    kind: str | None = read_field(thinking, "type", _Thinking, parent="thinking.")
    return {} if kind in (None, "adaptive") else {"enable_thinking": kind == "enabled"}
