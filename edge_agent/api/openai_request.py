"""From the JSON of an OpenAI-style request to a GenerationRequest, or a refusal naming the field.

Which fields are honoured is said here; what becomes of all others stands in one table for all
dialects, `edge_agent.api.requests.request_fields`. This module must never put message text into an
error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent.api.json_fields import read_field, shown
from edge_agent.api.requests.choice_fields import (
    Prompt,
    other_choices,
    read_num_choices,
    read_prompts,
)
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.extension_fields import read_extension
from edge_agent.api.requests.grammar_fields import GRAMMAR_FIELDS, read_grammar
from edge_agent.api.requests.logprob_fields import (
    read_chat_logprobs,
    read_completion_logprobs,
    read_prompt_logprobs,
)
from edge_agent.api.requests.message_fields import read_messages
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
    ToolsAsked,
    read_chat_tools,
    read_reading,
)
from edge_agent.api.template_fields import read_template_options
from edge_agent.generation.generation import GenerationRequest
from edge_agent.output_parsing.output_parser import NOTHING_APART
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
        *("goodspeed", "n", "n_cmpl", "prompt_logprobs", *_MAX_TOKENS_NAMES),
        *(*PROCESSOR_FIELDS, *GRAMMAR_FIELDS),
    }
)
_CHAT = _GENERAL | {
    *("messages", "chat_template_kwargs", "reasoning_effort", "continue_final_message", "thinking"),
    *("logprobs", "top_logprobs", "functions", "function_call", *TOOL_FIELDS, *READING_FIELDS),
    *("add_generation_prompt", "type"),  # the type is that of a chat socket's message
}
_COMPLETION = _GENERAL | {"prompt", "logprobs", "echo", "best_of"}


def read_chat_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /v1/chat/completions`.

    Raises:
        RequestRefused: a field is missing, of a wrong type, out of range or not supported.
    """
    return _chat_request(fields, _CHAT, read_chat_tools(fields))


def read_socket_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `generate` on the chat socket: a chat's, with one answer.

    All that is said is text, as it is, unless a field of tools or of thoughts is there.

    Raises:
        RequestRefused: as `read_chat_request`, or it asks for what the socket has no words for.
    """
    tells_apart = bool(fields.keys() & (TOOL_FIELDS | READING_FIELDS))
    asked = _chat_request(fields, _CHAT, read_chat_tools(fields) if tells_apart else None)
    for field, is_asked in (
        ("n", asked.others),
        ("logprobs", asked.generation.num_logprobs is not None),
        ("max_tokens", asked.writes_nothing),
        ("prompt_logprobs", asked.generation.tells_prompt),
    ):
        if is_asked:
            sentence = f"{field} = {shown(fields.get(field))}: not on a socket; send a chat request"
            raise RequestRefused(sentence, field)
    return asked


def read_completion_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /v1/completions`; raises like `read_chat_request`."""
    max_tokens = read_max_tokens(fields, *_MAX_TOKENS_NAMES, may_be_none=True)
    if all(fields.get(name) is None for name in _MAX_TOKENS_NAMES):
        max_tokens = DEFAULT_COMPLETION_TOKENS
    return _client_request(
        fields,
        messages=(),
        max_tokens=max_tokens,
        num_logprobs=read_completion_logprobs(fields),
        prompts=read_prompts(fields),
        template=PLAIN_TEMPLATE,
        ignored=ignored_fields(fields, _COMPLETION),
    )


def _chat_request(
    fields: Mapping[str, Any], honoured: frozenset[str], asked: ToolsAsked | None
) -> ClientRequest:
    turns = read_messages(fields)
    return _client_request(
        fields,
        messages=turns.messages,
        max_tokens=read_max_tokens(fields, *_MAX_TOKENS_NAMES, may_be_none=True),
        prompts=(Prompt(),),
        num_logprobs=read_chat_logprobs(fields),
        template=read_template_options(fields),
        ignored=(*ignored_fields(fields, honoured), *turns.ignored),
        asked=asked,
    )


def _client_request(
    fields: Mapping[str, Any],
    *,
    messages: tuple[ChatMessage, ...],
    prompts: Sequence[Prompt],
    max_tokens: int | None,
    num_logprobs: int | None,
    template: TemplateOptions,
    ignored: tuple[str, ...],
    asked: ToolsAsked | None = None,
) -> ClientRequest:
    stream_options: dict[str, Any] = read_field(fields, "stream_options", dict[str, Any], {})
    includes_usage = read_field(
        stream_options, "include_usage", bool, False, parent="stream_options."
    )
    choice, extension = read_sampling(fields), read_extension(fields)
    num_choices = read_num_choices(fields, may_choose=not messages)
    echoes_prompt = not messages and read_field(fields, "echo", bool, False)
    num_prompt_logprobs = read_prompt_logprobs(fields)
    tells_prompt_logprobs = num_prompt_logprobs is not None
    if echoes_prompt and num_prompt_logprobs is None:
        num_prompt_logprobs = num_logprobs
    hides_logprobs = num_choices.has_best and num_logprobs is None
    generation = GenerationRequest(
        messages=messages,
        text=prompts[0].text,
        prompt_ids=prompts[0].token_ids,
        sampling=choice.sampling,
        left_open=choice.left_open,
        seed=read_seed(fields),
        stop=read_stop(fields),
        max_tokens=1 if max_tokens == 0 else max_tokens,
        processors=read_processors(fields, max_tokens),
        processors_left_open=processors_left_open(fields),
        num_logprobs=0 if hides_logprobs else num_logprobs,
        template=template,
        acceptance_mode=extension.acceptance_mode,
        draft_length=extension.draft_length,
        grammar=read_grammar(fields),
        tools=b"" if asked is None else asked.tools,
        must_call=() if asked is None else asked.must_call,
        reading=NOTHING_APART if asked is None else read_reading(fields, asked),
        tells_prompt=echoes_prompt or tells_prompt_logprobs,
        num_prompt_logprobs=num_prompt_logprobs,
    )
    return ClientRequest(
        generation,
        is_streamed=read_field(fields, "stream", bool, False),
        includes_usage=includes_usage,
        ignored=ignored,
        others=other_choices(generation, prompts, num_choices),
        num_choices=num_choices.written,
        num_told=num_choices.told,
        hides_logprobs=hides_logprobs,
        echoes_prompt=echoes_prompt,
        tells_prompt_logprobs=tells_prompt_logprobs,
        writes_nothing=max_tokens == 0,
    )
