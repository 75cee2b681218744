"""Whether a client wants log-probabilities, and of how many other tokens, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.api.json_fields import read_field
from shared.errors import RequestRefused
from shared.protocol.messages import NumLogprobs


def read_chat_logprobs(fields: Mapping[str, Any]) -> int | None:
    """Of how many others beside each token of a chat; None: not wanted.

    Raises:
        RequestRefused: a field is of another type or out of range, or `top_logprobs` stand alone.
    """
    is_wanted: bool = read_field(fields, "logprobs", bool, False)
    num_others: int = read_field(fields, "top_logprobs", NumLogprobs, 0)
    if num_others and not is_wanted:
        sentence = f"top_logprobs = {num_others}: needs logprobs = true"
        raise RequestRefused(sentence, "top_logprobs")
    return num_others if is_wanted else None


def read_completion_logprobs(fields: Mapping[str, Any]) -> int | None:
    """The same of a completion, where `logprobs` is the number itself; false: not wanted."""
    if fields.get("logprobs") is False:
        return None
    num_others: int | None = read_field(fields, "logprobs", NumLogprobs)
    return num_others
