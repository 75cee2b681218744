"""From the JSON of OpenAI's Responses API to a GenerationRequest, or a refusal naming the field.

Text in, text out, and nothing is kept: the whole conversation is in every request. This module must
never put message text into an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from edge_agent.api.json_fields import read_field, shown
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.extension_fields import read_extension
from edge_agent.api.requests.grammar_fields import GRAMMAR_FIELDS, read_format, read_grammar
from edge_agent.api.requests.logprob_fields import read_response_logprobs
from edge_agent.api.requests.message_fields import Turns, check_prompt_bytes
from edge_agent.api.requests.processor_fields import (
    PROCESSOR_FIELDS,
    processors_left_open,
    read_processors,
)
from edge_agent.api.requests.request_fields import ignored_fields
from edge_agent.api.requests.sampling_fields import read_max_tokens, read_sampling, read_seed
from edge_agent.api.requests.tool_fields import (
    READING_FIELDS,
    TOOL_FIELDS,
    read_flat_tools,
    read_reading,
)
from edge_agent.api.responses.response_turns import read_items
from edge_agent.api.template_fields import read_template_options
from edge_agent.generation.generation import GenerationRequest
from shared.errors import RequestRefused
from shared.protocol.messages import ChatMessage

_HONOURED = frozenset(
    {
        *("input", "instructions", "max_output_tokens", "stream", "text", "reasoning", "seed"),
        *("temperature", "top_k", "top_p", "goodspeed", "chat_template_kwargs", "stream_options"),
        *PROCESSOR_FIELDS,
        *GRAMMAR_FIELDS,
        *(*TOOL_FIELDS, *READING_FIELDS),
        *("background", "include", "top_logprobs"),
    }
)
_Metadata = Annotated[dict[str, str], Meta(max_length=16)]  # as many as OpenAI takes
_KEPT = "nothing is kept here; send the text itself"


def read_response_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /v1/responses`.

    Raises:
        RequestRefused: a field is missing, of a wrong type, out of range or not supported.
    """
    ignored = ignored_fields(fields, _HONOURED)
    if fields.get("prompt") is not None:
        raise RequestRefused(f"prompt = {shown(fields['prompt'])}: {_KEPT}", "prompt")
    turns, asked = _turns(fields), read_flat_tools(fields)
    instructions: str = read_field(fields, "instructions", str, "")
    check_prompt_bytes("instructions", len(instructions.encode()))
    opening = (ChatMessage("system", instructions),) if instructions else ()
    text: dict[str, Any] = read_field(fields, "text", dict[str, Any], {})
    reasoning: dict[str, Any] = read_field(fields, "reasoning", dict[str, Any], {})
    template = read_template_options(
        {
            "chat_template_kwargs": fields.get("chat_template_kwargs"),
            "reasoning_effort": reasoning.get("effort"),
        }
    )
    choice, extension = read_sampling(fields), read_extension(fields)
    max_tokens = read_max_tokens(fields, "max_output_tokens")
    generation = GenerationRequest(
        messages=(*opening, *turns.messages),
        sampling=choice.sampling,
        left_open=choice.left_open,
        seed=read_seed(fields),
        max_tokens=max_tokens,
        processors=read_processors(fields, max_tokens),
        processors_left_open=processors_left_open(fields),
        template=template,
        acceptance_mode=extension.acceptance_mode,
        draft_length=extension.draft_length,
        grammar=read_format(text.get("format"), "text.format") or read_grammar(fields),
        tools=asked.tools,
        must_call=asked.must_call,
        reading=read_reading(fields, asked),
        num_logprobs=read_response_logprobs(fields),
    )
    of_parts = (
        *ignored_fields(text, {"format"}, parent="text."),
        *ignored_fields(reasoning, {"effort"}, parent="reasoning."),
    )
    is_streamed = read_field(fields, "stream", bool, False)
    is_background = read_field(fields, "background", bool, False)
    if is_background and not is_streamed:
        sentence = "background = true: not supported without a stream; send stream true as well"
        raise RequestRefused(sentence, "background")
    return ClientRequest(
        generation,
        is_streamed,
        comes_back=is_background,
        ignored=(*ignored, *of_parts, *turns.ignored, *asked.ignored),
        metadata=read_field(fields, "metadata", _Metadata, {}),
    )


def _turns(fields: Mapping[str, Any]) -> Turns:
    """A text alone is one turn of the user's."""
    asked = fields.get("input")
    if isinstance(asked, str):
        check_prompt_bytes("input", len(asked.encode()))
        return Turns((ChatMessage("user", asked),))
    return read_items(fields)
