from __future__ import annotations

from http import HTTPStatus

import pytest

from edge_agent.api.error_shapes import Dialect, Failure, dialect_of, error_body
from edge_agent.api.errors import failure_of
from shared.errors import PromptTooLong


@pytest.mark.parametrize(
    ("path", "headers", "dialect"),
    [
        ("/v1/chat/completions", {}, "openai"),
        ("/v1/responses", {}, "openai"),
        ("/nothing", {}, "openai"),
        ("/v1/messages", {}, "anthropic"),
        ("/v1/models", {"anthropic-version": "2023-06-01"}, "anthropic"),
        ("/api/chat", {}, "ollama"),
        ("/api/nothing", {}, "ollama"),
    ],
)
def test_a_request_shows_whose_words_it_is_in(
    path: str, headers: dict[str, str], dialect: Dialect
) -> None:
    assert dialect == dialect_of(path, headers)


def test_each_dialect_has_its_own_shape_of_the_same_failure() -> None:
    failure = Failure(HTTPStatus.BAD_REQUEST, "no", param="n", code="x")
    expected = {"message": "no", "type": "invalid_request_error", "param": "n", "code": "x"}
    assert {"error": expected} == error_body("openai", failure)
    expected = {"type": "invalid_request_error", "message": "no"}
    assert {"type": "error", "error": expected} == error_body("anthropic", failure)
    assert {"error": "no"} == error_body("ollama", failure)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_anthropics_types_follow_the_status(status: int, kind: str) -> None:
    assert kind == error_body("anthropic", Failure(HTTPStatus(status), "no"))["error"]["type"]


def test_a_prompt_that_is_too_long_is_said_in_the_words_that_clients_look_for() -> None:
    failure = failure_of(PromptTooLong("prompt of 9 tokens exceeds 7", "messages", 9, 7))
    error = error_body("openai", failure)["error"]
    assert ("context_length_exceeded", "messages") == (error["code"], error["param"])
    assert error["message"].startswith("This model's maximum context length is 7 tokens")
    assert "9 tokens" in error["message"]
    message = error_body("anthropic", failure)["error"]["message"]
    assert "prompt is too long: 9 tokens > 7 maximum" == message
    assert {"error": "prompt of 9 tokens exceeds 7"} == error_body("ollama", failure)
