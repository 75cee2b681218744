from __future__ import annotations

import pytest

from edge_agent.api.access import bears_token, is_own_origin


@pytest.mark.parametrize("origin", ["http://localhost:8090", "https://localhost:8090"])
def test_a_page_of_the_same_host_and_port_is_its_own(origin: str) -> None:
    assert is_own_origin(origin, "localhost:8090")


@pytest.mark.parametrize(
    "origin",
    ["null", "", "localhost:8090", "http://localhost", "http://evil", "file://localhost:8090"],
)
def test_any_other_page_is_foreign(origin: str) -> None:
    assert not is_own_origin(origin, "localhost:8090")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer secret"},
        {"Authorization": "bearer  secret "},
        {"Sec-WebSocket-Protocol": "goodspeed.chat, goodspeed.bearer.secret"},
    ],
)
def test_a_token_comes_as_bearer_or_subprotocol(headers: dict[str, str]) -> None:
    assert bears_token(headers, "secret")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "secret"},
        {"Authorization": "Basic secret"},
        {"Authorization": "Bearer secre"},
        {"Authorization": "Bearer \udcff"},
        {"Sec-WebSocket-Protocol": "goodspeed.chat"},
        {"Sec-WebSocket-Protocol": "secret"},
    ],
)
def test_anything_else_bears_no_token(headers: dict[str, str]) -> None:
    assert not bears_token(headers, "secret")
