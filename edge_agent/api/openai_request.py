"""From the JSON of an OpenAI-style request to a GenerationRequest, or a refusal naming the field.

Unknown fields are ignored, as OpenAI's own clients expect of a compatible server; known fields that
would change the answer and that goodspeed does not do are refused: silence would be a wrong answer.
This module must never put message text into an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from msgspec import Meta

from edge_agent.api.json_fields import kind_of, read_field, shown
from edge_agent.api.template_fields import read_template_options
from edge_agent.generation.generation import GenerationRequest
from shared.errors import RequestRefused
from shared.protocol.messages import (
    MAX_CHAT_MESSAGES,
    MAX_POSITION,
    MAX_STOP_BYTES,
    MAX_STOP_STRINGS,
    PLAIN_TEMPLATE,
    AcceptanceMode,
    ChatMessage,
    DraftLength,
    Seed,
    TemplateOptions,
)
from shared.protocol.prompt_parts import MAX_PROMPT_BYTES
from shared.speculation.sampling import SamplingField, SamplingParameters

# In all messages together: each takes 0.5 us of the event loop.
MAX_TEXT_PARTS = 4096

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's documented default of /v1/completions

# Fields that would change the answer, with the values that ask for nothing.
_NEUTRAL_VALUES: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "min_p": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "chat_template": (),  # a program; only the operator of the verifier says which one runs
    "audio": (),
    "grammar": ("",),
    "json_schema": ({},),
}

# Templates of open models know "system" alone; "developer" is OpenAI's newer word for it.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}

_SAMPLING_TYPES = get_type_hints(SamplingParameters, include_extras=True)
_SAMPLING_FIELDS: tuple[SamplingField, ...] = get_args(SamplingField)
_MaxTokens = Annotated[int, Meta(ge=1, le=MAX_POSITION)]
_StopStrings = Annotated[tuple[str, ...], Meta(max_length=MAX_STOP_STRINGS)]
_EXTENSION_TYPES: dict[str, Any] = {"acceptance_mode": AcceptanceMode, "draft_length": DraftLength}


class ClientRequest(msgspec.Struct, frozen=True):
    """What a client asks for, and how it wants the answer."""

    generation: GenerationRequest
    is_streamed: bool = False
    includes_usage: bool = False  # in a last chunk of its own, when streamed


def read_chat_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /v1/chat/completions`, and of `generate` on the chat socket.

    Raises:
        RequestRefused: a field is missing, of a wrong type, out of range or not supported.
    """
    return _client_request(
        fields,
        messages=_messages(fields),
        max_tokens=_max_tokens(fields),
        text="",
        template=read_template_options(fields),
    )


def read_completion_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /v1/completions`; raises like `read_chat_request`."""
    max_tokens = _max_tokens(fields)
    if max_tokens is None:
        max_tokens = DEFAULT_COMPLETION_TOKENS
    return _client_request(
        fields,
        messages=(),
        max_tokens=max_tokens,
        text=_prompt(fields),
        template=PLAIN_TEMPLATE,
    )


def _client_request(
    fields: Mapping[str, Any],
    *,
    messages: tuple[ChatMessage, ...],
    text: str,
    max_tokens: int | None,
    template: TemplateOptions,
) -> ClientRequest:
    _refuse_unsupported(fields)
    stream_options: dict[str, Any] = read_field(fields, "stream_options", dict[str, Any], {})
    generation = GenerationRequest(
        messages=messages,
        text=text,
        sampling=SamplingParameters(**_given(fields, _SAMPLING_TYPES)),
        left_open=tuple(name for name in _SAMPLING_FIELDS if fields.get(name) is None),
        seed=read_field(fields, "seed", Seed),
        stop=_stop(fields),
        max_tokens=max_tokens,
        template=template,
        **_extension(fields),
    )
    includes_usage = read_field(
        stream_options, "include_usage", bool, False, parent="stream_options."
    )
    return ClientRequest(generation, read_field(fields, "stream", bool, False), includes_usage)


def _extension(fields: Mapping[str, Any]) -> dict[str, Any]:
    extension: dict[str, Any] = read_field(fields, "goodspeed", dict[str, Any], {})
    for name in extension:
        if name not in _EXTENSION_TYPES:  # a mistyped one would silently do nothing
            known = ", ".join(_EXTENSION_TYPES)
            sentence = f"unknown field {shown(name)} in goodspeed: it has {known}"
            raise RequestRefused(sentence, "goodspeed")
    return _given(extension, _EXTENSION_TYPES, parent="goodspeed.")


def _given(fields: Mapping[str, Any], kinds: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """Those of the fields that are there and not null."""
    return {
        name: read_field(fields, name, kind, parent=parent)
        for name, kind in kinds.items()
        if fields.get(name) is not None
    }


def _refuse_unsupported(fields: Mapping[str, Any]) -> None:
    for name, neutral_values in _NEUTRAL_VALUES.items():
        value = fields.get(name)
        if value is None or any(_is_same(value, neutral) for neutral in neutral_values):
            continue
        raise RequestRefused(f"{name} = {shown(value)}: not supported", name)


def _is_same(value: object, neutral: object) -> bool:
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _max_tokens(fields: Mapping[str, Any]) -> int | None:
    newer: int | None = read_field(fields, "max_completion_tokens", _MaxTokens)
    older: int | None = read_field(fields, "max_tokens", _MaxTokens)
    return older if newer is None else newer


def _stop(fields: Mapping[str, Any]) -> tuple[str, ...]:
    stop = fields.get("stop")
    listed = {"stop": [stop] if isinstance(stop, str) else stop}
    strings: tuple[str, ...] = read_field(listed, "stop", _StopStrings, ())
    for string in strings:
        num_bytes = len(string.encode())
        if not 1 <= num_bytes <= MAX_STOP_BYTES:
            sentence = f"stop string of {num_bytes} bytes: must have 1 to {MAX_STOP_BYTES}"
            raise RequestRefused(sentence, "stop")
    return strings


def _prompt(fields: Mapping[str, Any]) -> str:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise RequestRefused(f"prompt must be one string, not {kind_of(prompt)}", "prompt")
    _check_prompt_bytes("prompt", len(prompt.encode()))
    return prompt


def _messages(fields: Mapping[str, Any]) -> tuple[ChatMessage, ...]:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestRefused(
            f"messages must be a list of one message or more, not {kind_of(messages)}", "messages"
        )
    if len(messages) > MAX_CHAT_MESSAGES:
        raise RequestRefused(f"{len(messages)} messages exceed {MAX_CHAT_MESSAGES}", "messages")
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    num_parts = sum(len(content) for content in contents if isinstance(content, list))
    if num_parts > MAX_TEXT_PARTS:
        raise RequestRefused(f"{num_parts} text parts exceed {MAX_TEXT_PARTS}", "messages")
    turns = tuple(_message(message, f"messages[{i}]") for i, message in enumerate(messages))
    _check_prompt_bytes("messages", sum(len(turn.content.encode()) for turn in turns))
    return turns


def _message(message: object, name: str) -> ChatMessage:
    if not isinstance(message, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(message)}", name)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        sentence = f"{name}.role = {shown(role)}: must be one of {', '.join(_ROLES)}"
        raise RequestRefused(sentence, f"{name}.role")
    for field in ("tool_calls", "function_call", "audio"):
        if message.get(field):
            raise RequestRefused(f"{name}.{field}: not supported", f"{name}.{field}")
    return ChatMessage(_ROLES[role], _content(message.get("content"), f"{name}.content"))


def _content(content: object, name: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise RequestRefused(
            f"{name} must be a string or a list of text parts, not {kind_of(content)}", name
        )
    # Joined as llama-server and vLLM join them.
    return "\n".join(_text_part(part, f"{name}[{i}]") for i, part in enumerate(content))


def _text_part(part: object, name: str) -> str:
    if not isinstance(part, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(part)}", name)
    if part.get("type") != "text":
        sentence = f"{name}.type = {shown(part.get('type'))}: only text parts are supported"
        raise RequestRefused(sentence, f"{name}.type")
    text = part.get("text")
    if not isinstance(text, str):
        raise RequestRefused(f"{name}.text must be a string, not {kind_of(text)}", f"{name}.text")
    return text


def _check_prompt_bytes(name: str, num_bytes: int) -> None:
    if num_bytes > MAX_PROMPT_BYTES:
        raise RequestRefused(f"{name} of {num_bytes} bytes exceed {MAX_PROMPT_BYTES}", name)
