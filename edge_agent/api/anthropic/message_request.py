"""From the JSON of Anthropic's Messages API to a GenerationRequest, or a refusal naming the field.

This module must never put message text into an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.api.anthropic.message_turns import read_message_turns
from edge_agent.api.json_fields import read_field
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.extension_fields import read_extension
from edge_agent.api.requests.grammar_fields import GRAMMAR_FIELDS, read_format, read_grammar
from edge_agent.api.requests.message_fields import check_prompt_bytes, read_text
from edge_agent.api.requests.processor_fields import (
    PROCESSOR_FIELDS,
    processors_left_open,
    read_processors,
)
from edge_agent.api.requests.request_fields import ignored_fields
from edge_agent.api.requests.sampling_fields import (
    read_max_tokens,
    read_sampling,
    read_seed,
    read_stop,
)
from edge_agent.api.requests.tool_fields import (
    READING_FIELDS,
    TOOL_FIELDS,
    read_anthropic_tools,
    read_reading,
)
from edge_agent.api.template_fields import read_template_options
from edge_agent.generation.generation import GenerationRequest
from shared.protocol.messages import ChatMessage

_HONOURED = frozenset(
    {
        *("messages", "system", "max_tokens", "stop_sequences", "stream", "output_config"),
        *("temperature", "top_k", "top_p", "seed", "goodspeed", "chat_template_kwargs"),
        *PROCESSOR_FIELDS,
        *GRAMMAR_FIELDS,
        *("thinking", *TOOL_FIELDS, *READING_FIELDS),
    }
)


def read_message_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /v1/messages`; where the assistant spoke last, its turn goes on.

    Raises:
        RequestRefused: a field is missing, of a wrong type, out of range or not supported.
    """
    turns, asked = read_message_turns(fields), read_anthropic_tools(fields)
    last = turns.messages[-1]
    system = fields.get("system")
    text = read_text(system, "system") if system else ""
    check_prompt_bytes("system", len(text.encode()))
    output: dict[str, Any] = read_field(fields, "output_config", dict[str, Any], {})
    template = read_template_options(
        {
            "chat_template_kwargs": fields.get("chat_template_kwargs"),
            "thinking": fields.get("thinking"),
            "reasoning_effort": output.get("effort"),
            "continue_final_message": last.role == "assistant" and not last.tool_calls,
        }
    )
    choice, extension = read_sampling(fields), read_extension(fields)
    max_tokens = read_max_tokens(fields, "max_tokens", may_be_none=True)
    generation = GenerationRequest(
        messages=(ChatMessage("system", text), *turns.messages) if text else turns.messages,
        sampling=choice.sampling,
        left_open=choice.left_open,
        seed=read_seed(fields),
        stop=read_stop(fields, "stop_sequences"),
        max_tokens=1 if max_tokens == 0 else max_tokens,
        processors=read_processors(fields, max_tokens),
        processors_left_open=processors_left_open(fields),
        template=template,
        acceptance_mode=extension.acceptance_mode,
        draft_length=extension.draft_length,
        grammar=read_format(output.get("format"), "output_config.format") or read_grammar(fields),
        tools=asked.tools,
        must_call=asked.must_call,
        reading=read_reading(fields, asked),
    )
    ignored = (
        *ignored_fields(fields, _HONOURED),
        *ignored_fields(output, {"effort", "format"}, parent="output_config."),
        *turns.ignored,
        *asked.ignored,
    )
    is_streamed = read_field(fields, "stream", bool, False)
    writes_nothing = max_tokens == 0
    return ClientRequest(generation, is_streamed, ignored=ignored, writes_nothing=writes_nothing)
