"""Whether a client wants log-probabilities, and of how many others, in all dialects' words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.api.json_fields import read_field, shown
from shared.errors import RequestRefused
from shared.protocol.messages import NumLogprobs

_OF_RESPONSES = "message.output_text.logprobs"
# Thoughts come as they are, so that there is nothing to decrypt when they are sent again.
_ENCRYPTED = "reasoning.encrypted_content"


def read_chat_logprobs(fields: Mapping[str, Any]) -> int | None:
    """Of how many others beside each token of a chat, OpenAI's or Ollama's; None: not wanted.

    Raises:
        RequestRefused: a field is of another type or out of range, or `top_logprobs` stand alone.
    """
    is_wanted: bool = read_field(fields, "logprobs", bool, False)
    return _num_others(fields, is_wanted, "logprobs = true")


def read_response_logprobs(fields: Mapping[str, Any]) -> int | None:
    """The same of the Responses API, where `include` names them.

    Raises:
        RequestRefused: as `read_chat_logprobs`, or `include` names what there is not.
    """
    included: list[Any] = read_field(fields, "include", list[Any], [])
    for i, name in enumerate(included):
        if name not in (_OF_RESPONSES, _ENCRYPTED):
            sentence = f"include[{i}] = {shown(name)}: not supported; only {_OF_RESPONSES} is"
            raise RequestRefused(sentence, f"include[{i}]")
    return _num_others(fields, _OF_RESPONSES in included, f"include = [{_OF_RESPONSES!r}]")


def read_completion_logprobs(fields: Mapping[str, Any]) -> int | None:
    """The same of a completion, where `logprobs` is the number itself; false: not wanted."""
    if fields.get("logprobs") is False:
        return None
    num_others: int | None = read_field(fields, "logprobs", NumLogprobs)
    return num_others


def read_prompt_logprobs(fields: Mapping[str, Any]) -> int | None:
    """Of how many others beside each token of the prompt, in vLLM's words.

    Raises:
        RequestRefused: it is out of range, or the answer is streamed.
    """
    num_others: int | None = read_field(fields, "prompt_logprobs", NumLogprobs)
    if num_others is not None and fields.get("stream"):
        sentence = f"prompt_logprobs = {num_others}: no piece has a place for them"
        raise RequestRefused(f"{sentence}; ask without stream", "prompt_logprobs")
    return num_others


def _num_others(fields: Mapping[str, Any], is_wanted: bool, needed: str) -> int | None:
    num_others: int = read_field(fields, "top_logprobs", NumLogprobs, 0)
    if num_others and not is_wanted:
        raise RequestRefused(f"top_logprobs = {num_others}: needs {needed}", "top_logprobs")
    return num_others if is_wanted else None
