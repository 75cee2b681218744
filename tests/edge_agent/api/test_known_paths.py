from __future__ import annotations

import pytest

from edge_agent.api.known_paths import hint_for

KNOWN = (
    *("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{id}", "/v1/responses"),
    *("/tokenize", "/detokenize", "/v1/messages/count_tokens", "/api/version"),
    *("/v1/messages", "/api/chat", "/api/generate", "/api/tags", "/api/show", "/health"),
)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/models", "/v1/models"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/V1/Chat/Completions", "/v1/chat/completions"),
        ("/v1/chat/completion", "/v1/chat/completions"),
        ("/v1/chat", "/v1/chat/completions"),
        ("/openai/deployments/gpt/chat/completions", "/v1/chat/completions"),
        ("/v1", "/v1/models"),
        ("/api", "/api/tags"),
        ("/completion", "/v1/completions"),
        ("/models", "/v1/models"),
        ("/v1/message", "/v1/messages"),
        ("/messages", "/v1/messages"),
        ("/tags", "/api/tags"),
        ("/healtz", "/health"),
        ("/api/tokenize", "/tokenize"),
        ("/v1/tokenize", "/tokenize"),
        ("/count_tokens", "/v1/messages/count_tokens"),
        ("/version", "/api/version"),
    ],
)
def test_a_wrong_path_leads_to_the_right_one(wrong: str, right: str) -> None:
    assert f"did you mean {right}?" == hint_for(wrong, KNOWN)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/v1/embeddings", "embeddings"),
        ("/api/embed", "embeddings"),
        ("/api/pull", "operator"),
        ("/props", "/v1/models"),
        ("/infill", "filled in"),
        ("/v1/files", "send the text"),
        ("/v1/threads/x/messages", "whole conversation"),
        ("/metrics", "verifier"),
    ],
)
def test_what_other_servers_do_is_said_not_to_be_done_here(path: str, word: str) -> None:
    assert word in hint_for(path, KNOWN)


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/.env", "/" + "chat/" * 1000])
def test_of_other_paths_nothing_is_said(path: str) -> None:
    assert "" == hint_for(path, KNOWN)
