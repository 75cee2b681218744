"""Pages of other sites, as browsers ask for them."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from edge_agent.api.cross_origin import preflight_headers
from edge_agent.generation.scripted_generator import ScriptedGenerator
from tests.support.ends.api_server import HELLO, serving

CHAT_PATH = "/v1/chat/completions"
PAGE = "https://chat.example"
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
}


async def ask(
    method: str, headers: dict[str, str], body: Any = None, **options: Any
) -> tuple[int, Any, dict[str, str]]:
    options = {"allowed_origins": frozenset({PAGE}), **options}
    async with (
        serving(ScriptedGenerator(HELLO), **options) as url,
        aiohttp.ClientSession(url) as http,
        http.request(method, CHAT_PATH, headers=headers, json=body) as response,
    ):
        return response.status, await response.text(), dict(response.headers)


def test_a_browser_is_told_what_a_page_may_ask_before_it_shows_any_token() -> None:
    status, body, headers = asyncio.run(ask("OPTIONS", PREFLIGHT, api_token="secret"))
    assert (204, "") == (status, body)
    assert PAGE == headers["Access-Control-Allow-Origin"]
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert "authorization, content-type" == headers["Access-Control-Allow-Headers"]


def test_a_browser_is_told_nothing_about_other_pages() -> None:
    headers = {**PREFLIGHT, "Origin": "https://evil.example"}
    status, body, headers = asyncio.run(ask("OPTIONS", headers))
    assert 403 == status
    assert "api.allowed_origins" in body
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_page_may_read_its_answer(is_streamed: bool) -> None:
    body = {**CHAT, "stream": is_streamed}
    status, text, headers = asyncio.run(ask("POST", {"Origin": PAGE}, body))
    assert (200, PAGE, "Origin") == (
        status,
        headers["Access-Control-Allow-Origin"],
        headers["Vary"],
    )
    assert "world" in text


@pytest.mark.parametrize("body", [{}, {"messages": 5}])
def test_a_page_may_read_a_refusal(body: dict[str, Any]) -> None:
    status, text, headers = asyncio.run(ask("POST", {"Origin": PAGE}, body))
    assert (400, PAGE) == (status, headers["Access-Control-Allow-Origin"])
    assert "messages" in text


def test_a_page_without_the_token_may_read_that_it_needs_one() -> None:
    status, _, headers = asyncio.run(ask("POST", {"Origin": PAGE}, CHAT, api_token="secret"))
    assert (401, PAGE) == (status, headers["Access-Control-Allow-Origin"])


def test_headers_that_are_none_are_not_repeated() -> None:
    asked = {"Access-Control-Request-Headers": "x\r\nSet-Cookie: a=b"}
    assert "Access-Control-Allow-Headers" not in preflight_headers(asked)


def test_a_page_of_the_internet_may_ask_a_board_of_a_private_network() -> None:
    asked = {"Access-Control-Request-Private-Network": "true"}
    assert "true" == preflight_headers(asked)["Access-Control-Allow-Private-Network"]
