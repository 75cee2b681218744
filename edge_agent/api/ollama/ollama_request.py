"""From the JSON of Ollama's requests to a GenerationRequest, or a refusal naming the field.

This module must never put message text into an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.api.json_fields import read_field
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.extension_fields import read_extension
from edge_agent.api.requests.grammar_fields import read_ollama_format
from edge_agent.api.requests.logprob_fields import read_chat_logprobs
from edge_agent.api.requests.message_fields import Turns, check_prompt_bytes, read_messages
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
from edge_agent.api.requests.tool_fields import ToolsAsked, read_ollama_tools, read_reading
from edge_agent.api.template_fields import read_template_options
from edge_agent.generation.generation import GenerationRequest
from edge_agent.output_parsing.output_parser import NOTHING_APART
from shared.protocol.messages import PLAIN_TEMPLATE, ChatMessage, TemplateOptions

_GENERAL = frozenset(
    {
        *("options", "stream", "think", "format", "goodspeed", "chat_template_kwargs"),
        *("logprobs", "top_logprobs"),
    }
)
_CHAT = _GENERAL | {"messages", "tools"}
_GENERATE = _GENERAL | {"prompt", "system", "raw"}
_OPTIONS = (
    frozenset({"temperature", "top_k", "top_p", "seed", "stop", "num_predict"}) | PROCESSOR_FIELDS
)
_NO_TOOLS = ToolsAsked()
_UNLIMITED = (-1, -2, 0)  # Ollama's words: for ever, until the context is full, and its old default


def read_ollama_chat(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /api/chat`; where the assistant spoke last, its turn goes on.

    Raises:
        RequestRefused: a field is missing, of a wrong type, out of range or not supported.
    """
    ignored = ignored_fields(fields, _CHAT)
    if not fields.get("messages"):
        return _only_the_model(fields, ignored)
    turns = read_messages(fields)
    last = turns.messages[-1]
    template = _template(fields, continues=last.role == "assistant" and not last.tool_calls)
    return _client_request(fields, turns, "", template, ignored, read_ollama_tools(fields))


def read_ollama_generate(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /api/generate`: one question, or with `raw` a text to go on with.

    Raises:
        RequestRefused: a field is of a wrong type, out of range or not supported.
    """
    ignored = ignored_fields(fields, _GENERATE)
    prompt: str = read_field(fields, "prompt", str, "")
    system: str = read_field(fields, "system", str, "")
    if not prompt:
        return _only_the_model(fields, ignored)
    check_prompt_bytes("prompt", len(prompt.encode()) + len(system.encode()))
    if read_field(fields, "raw", bool, False):
        return _client_request(fields, Turns(()), prompt, PLAIN_TEMPLATE, ignored, None)
    asked = ChatMessage("user", prompt)
    turns = Turns((ChatMessage("system", system), asked) if system else (asked,))
    template = _template(fields, continues=False)
    return _client_request(fields, turns, "", template, ignored, _NO_TOOLS)


def _client_request(
    fields: Mapping[str, Any],
    turns: Turns,
    text: str,
    template: TemplateOptions,
    ignored: tuple[str, ...],
    asked: ToolsAsked | None,
) -> ClientRequest:
    options: dict[str, Any] = read_field(fields, "options", dict[str, Any], {})
    choice, extension = read_sampling(options, parent="options."), read_extension(fields)
    max_tokens = read_max_tokens(options, "num_predict", parent="options.", unlimited=_UNLIMITED)
    generation = GenerationRequest(
        messages=turns.messages,
        text=text,
        sampling=choice.sampling,
        left_open=choice.left_open,
        seed=read_seed(options, parent="options."),
        stop=read_stop(options, parent="options."),
        max_tokens=max_tokens,
        processors=read_processors(options, max_tokens, parent="options."),
        processors_left_open=processors_left_open(options),
        template=template,
        acceptance_mode=extension.acceptance_mode,
        draft_length=extension.draft_length,
        grammar=read_ollama_format(fields.get("format")),
        tools=b"" if asked is None else asked.tools,
        must_call=() if asked is None else asked.must_call,
        reading=NOTHING_APART if asked is None else read_reading({}, asked),
        num_logprobs=read_chat_logprobs(fields),
    )
    of_options = ignored_fields(options, _OPTIONS, parent="options.")
    is_streamed = read_field(fields, "stream", bool, True)
    return ClientRequest(generation, is_streamed, ignored=(*ignored, *of_options, *turns.ignored))


def _only_the_model(fields: Mapping[str, Any], ignored: tuple[str, ...]) -> ClientRequest:
    """Without a word Ollama loads the model, or with a `keep_alive` of 0 unloads it."""
    stays = fields.get("keep_alive") not in (0, "0", "0s")
    return ClientRequest(GenerationRequest(), False, ignored=ignored, keep_alive=stays)


def _template(fields: Mapping[str, Any], *, continues: bool) -> TemplateOptions:
    """`think` is a word of effort, or whether to think at all."""
    think: bool | str | None = read_field(fields, "think", bool | str)
    arguments: dict[str, Any] = read_field(fields, "chat_template_kwargs", dict[str, Any], {})
    if isinstance(think, bool):
        arguments = {"enable_thinking": think, **arguments}
    return read_template_options(
        {
            "chat_template_kwargs": arguments,
            "reasoning_effort": think if isinstance(think, str) else None,
            "continue_final_message": continues,
        }
    )
