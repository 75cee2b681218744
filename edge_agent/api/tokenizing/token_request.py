"""What a client asks of the tokenizer, in the words of vLLM and of llama-server.

This module must never put text of a prompt into an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from edge_agent.api.json_fields import kind_of, read_field
from edge_agent.api.requests.client_request import ClientRequest, TokenWish
from edge_agent.api.requests.message_fields import check_prompt_bytes, read_messages
from edge_agent.api.requests.request_fields import ignored_fields
from edge_agent.api.template_fields import read_template_options
from edge_agent.generation.generation import GenerationRequest
from shared.errors import RequestRefused

MAX_TOKEN_IDS = 1 << 18  # beyond the longest context
_HONOURED = frozenset(
    {
        *("content", "prompt", "messages", "add_special", "add_special_tokens", "parse_special"),
        *("with_pieces", "return_token_strs", "chat_template_kwargs", "reasoning_effort"),
        *("add_generation_prompt", "continue_final_message", "tokens"),
    }
)
_TokenIds = Annotated[list[Annotated[int, Meta(ge=0, lt=1 << 24)]], Meta(max_length=MAX_TOKEN_IDS)]


def read_tokenize_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /tokenize`: `content` is llama-server's, `prompt` and `messages` vLLM's.

    Raises:
        RequestRefused: there is none of these, or a field is of a wrong type or not supported.
    """
    ignored = ignored_fields(fields, _HONOURED)
    if not read_field(fields, "parse_special", bool, True):
        sentence = "parse_special = false: a plain prompt names special tokens; send it in messages"
        raise RequestRefused(sentence, "parse_special")
    if fields.get("messages") is not None:
        turns = read_messages(fields)
        template = read_template_options(fields)
        generation = GenerationRequest(messages=turns.messages, template=template)
        return ClientRequest(generation, ignored=(*ignored, *turns.ignored), tokens=_wish(fields))
    is_llama_servers = fields.get("content") is not None
    name = "content" if is_llama_servers else "prompt"
    text = fields.get(name)
    if not isinstance(text, str):
        sentence = f"content, prompt or messages must say what to tokenize, not {kind_of(text)}"
        raise RequestRefused(sentence, name)
    check_prompt_bytes(name, len(text.encode()))
    wish = _wish(fields, is_llama_servers=is_llama_servers)
    return ClientRequest(GenerationRequest(text=text), ignored=ignored, tokens=wish)


def read_detokenize_request(fields: Mapping[str, Any]) -> ClientRequest:
    """The request of `POST /detokenize`; raises like `read_tokenize_request`."""
    token_ids: list[int] | None = read_field(fields, "tokens", _TokenIds)
    if token_ids is None:
        raise RequestRefused("tokens must be a list of token ids", "tokens")
    generation = GenerationRequest(prompt_ids=tuple(token_ids))
    return ClientRequest(generation, ignored=ignored_fields(fields, _HONOURED))


def _wish(fields: Mapping[str, Any], *, is_llama_servers: bool = False) -> TokenWish:
    """Where nothing is said, vLLM sets tokens around a prompt, and llama-server does not."""
    name = "add_special" if is_llama_servers else "add_special_tokens"
    return TokenWish(
        is_llama_servers=is_llama_servers,
        adds_special=read_field(fields, name, bool, not is_llama_servers),
        with_pieces=read_field(fields, "with_pieces", bool, False),
        with_strings=read_field(fields, "return_token_strs", bool, False),
    )
