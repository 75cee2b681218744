from __future__ import annotations

from typing import Any

import pytest

from edge_agent.api.requests.client_request import TokenWish
from edge_agent.api.tokenizing.token_request import (
    MAX_TOKEN_IDS,
    read_detokenize_request,
    read_tokenize_request,
)
from shared.errors import RequestRefused


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({"content": "x"}, TokenWish(is_llama_servers=True, adds_special=False)),
        (
            {"content": "x", "add_special": True, "with_pieces": True},
            TokenWish(is_llama_servers=True, with_pieces=True),
        ),
        ({"prompt": "x"}, TokenWish()),
        (
            {"prompt": "x", "add_special_tokens": False, "return_token_strs": True},
            TokenWish(adds_special=False, with_strings=True),
        ),
    ],
)
def test_both_servers_words_are_read(fields: dict[str, Any], wish: TokenWish) -> None:
    asked = read_tokenize_request({"model": "any", **fields})
    assert (wish, "x", ()) == (asked.tokens, asked.generation.text, asked.ignored)


def test_turns_are_read_with_their_template() -> None:
    fields = {
        "messages": [{"role": "user", "content": "hi"}],
        "add_generation_prompt": False,
        "magic": 1,
    }
    asked = read_tokenize_request(fields)
    assert ["hi"] == [turn.content for turn in asked.generation.messages]
    assert not asked.generation.template.add_generation_prompt
    assert ("magic",) == asked.ignored


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"content": ["x"]}, "content"),
        ({"content": "x", "parse_special": False}, "parse_special"),
        ({"messages": "hi"}, "messages"),
        ({"prompt": "x", "add_special_tokens": "yes"}, "add_special_tokens"),
    ],
)
def test_what_says_no_prompt_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_tokenize_request(fields)
    assert field == refused.value.field


def test_ids_are_read() -> None:
    assert (0, 7) == read_detokenize_request({"tokens": [0, 7]}).generation.prompt_ids


@pytest.mark.parametrize(
    "tokens", [None, "x", [-1], [1.5], [True], [1 << 24], [0] * (MAX_TOKEN_IDS + 1)]
)
def test_what_are_no_ids_is_refused(tokens: object) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_detokenize_request({"tokens": tokens})
    assert (refused.value.field or "").startswith("tokens")
