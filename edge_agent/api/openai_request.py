"""From the JSON of an OpenAI-style request to a GenerationRequest, or a refusal naming the field.

Which fields are honoured is said here; what becomes of all others stands in one table for all
dialects, `edge_agent.api.requests.request_fields`. This module must never put message text into an
error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.api.json_fields import kind_of, read_field
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.extension_fields import read_extension
from edge_agent.api.requests.grammar_fields import GRAMMAR_FIELDS, read_grammar
from edge_agent.api.requests.message_fields import check_prompt_bytes, read_messages
from edge_agent.api.requests.request_fields import ignored_fields
from edge_agent.api.requests.sampling_fields import (
    read_max_tokens,
    read_sampling,
    read_seed,
    read_stop,
)
from edge_agent.api.template_fields import read_template_options
from edge_agent.generation.generation import GenerationRequest
from shared.errors import RequestRefused
from shared.protocol.messages import (
    PLAIN_TEMPLATE,
    ChatMessage,
    TemplateOptions,
)

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's documented default of /v1/completions

_MAX_TOKENS_NAMES = ("max_completion_tokens", "max_tokens", "n_predict")  # the newer one wins
_GENERAL = frozenset(
    {
        *("temperature", "top_k", "top_p", "seed", "stop", "stream", "stream_options"),
        *("goodspeed", *_MAX_TOKENS_NAMES, *GRAMMAR_FIELDS),
    }
)
_CHAT = _GENERAL | {
    *("messages", "chat_template_kwargs", "reasoning_effort", "continue_final_message"),
    *("add_generation_prompt", "type"),  # the type is that of a chat socket's message
}
_COMPLETION = _GENERAL | {"prompt"}


def read_chat_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /v1/chat/completions`, and of `generate` on the chat socket.

    Raises:
        RequestRefused: a field is missing, of a wrong type, out of range or not supported.
    """
    turns = read_messages(fields)
    return _client_request(
        fields,
        messages=turns.messages,
        max_tokens=read_max_tokens(fields, *_MAX_TOKENS_NAMES),
        text="",
        template=read_template_options(fields),
        ignored=(*ignored_fields(fields, _CHAT), *turns.ignored),
    )


def read_completion_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /v1/completions`; raises like `read_chat_request`."""
    max_tokens = read_max_tokens(fields, *_MAX_TOKENS_NAMES)
    if all(fields.get(name) is None for name in _MAX_TOKENS_NAMES):
        max_tokens = DEFAULT_COMPLETION_TOKENS
    return _client_request(
        fields,
        messages=(),
        max_tokens=max_tokens,
        text=_prompt(fields),
        template=PLAIN_TEMPLATE,
        ignored=ignored_fields(fields, _COMPLETION),
    )


def _client_request(
    fields: Mapping[str, Any],
    *,
    messages: tuple[ChatMessage, ...],
    text: str,
    max_tokens: int | None,
    template: TemplateOptions,
    ignored: tuple[str, ...],
) -> ClientRequest:
    stream_options: dict[str, Any] = read_field(fields, "stream_options", dict[str, Any], {})
    includes_usage = read_field(
        stream_options, "include_usage", bool, False, parent="stream_options."
    )
    choice, extension = read_sampling(fields), read_extension(fields)
    generation = GenerationRequest(
        messages=messages,
        text=text,
        sampling=choice.sampling,
        left_open=choice.left_open,
        seed=read_seed(fields),
        stop=read_stop(fields),
        max_tokens=max_tokens,
        template=template,
        acceptance_mode=extension.acceptance_mode,
        draft_length=extension.draft_length,
        grammar=read_grammar(fields),
    )
    is_streamed = read_field(fields, "stream", bool, False)
    return ClientRequest(generation, is_streamed, includes_usage, ignored)


def _prompt(fields: Mapping[str, Any]) -> str:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise RequestRefused(f"prompt must be one string, not {kind_of(prompt)}", "prompt")
    check_prompt_bytes("prompt", len(prompt.encode()))
    return prompt
