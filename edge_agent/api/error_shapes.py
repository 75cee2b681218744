"""One failure in the shape of each dialect; which dialect a request is in shows by what it asks.

Pure. This module must never decide what is a failure; `edge_agent.api.errors` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from edge_agent.api.openai_response import error_object

Dialect = Literal["openai", "anthropic", "ollama"]

# Programs that shorten a conversation by themselves look for these words.
_OPENAI_TOO_LONG = (
    "This model's maximum context length is {1} tokens for a prompt. However, your messages "
    "resulted in {0} tokens. Please reduce the length of the messages."
)
_ANTHROPIC_TOO_LONG = "prompt is too long: {0} tokens > {1} maximum"

_ANTHROPIC_KINDS = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of a request, in no dialect yet; `kind` and `code` are OpenAI's words."""

    status: HTTPStatus
    sentence: str
    kind: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    prompt_lengths: tuple[int, int] | None = None  # of one that is too long, and the most; tokens


def dialect_of(path: str, headers: Mapping[str, str]) -> Dialect:
    """Whose words the client of a request understands.

    Anthropic's clients say their API's version with every request, whatever the path.
    """
    if path.startswith("/api/"):
        return "ollama"
    return "anthropic" if "anthropic-version" in headers or path == "/v1/messages" else "openai"


def error_body(dialect: Dialect, failure: Failure) -> dict[str, Any]:
    """The JSON of the failure."""
    match dialect:
        case "openai":
            sentence = _in_words(failure, _OPENAI_TOO_LONG)
            return error_object(sentence, failure.kind, failure.param, failure.code)
        case "anthropic":
            is_ours = failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            kind = "api_error" if is_ours else "invalid_request_error"
            kind = _ANTHROPIC_KINDS.get(failure.status, kind)
            sentence = _in_words(failure, _ANTHROPIC_TOO_LONG)
            return {"type": "error", "error": {"type": kind, "message": sentence}}
        case "ollama":
            return {"error": failure.sentence}


def _in_words(failure: Failure, too_long: str) -> str:
    if failure.prompt_lengths is None:
        return failure.sentence
    return too_long.format(*failure.prompt_lengths)
