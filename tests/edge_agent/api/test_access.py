from __future__ import annotations

import pytest

from edge_agent.api.access import Access, bears_token, is_own_origin


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
        {"X-Api-Key": "secret"},
        {"X-Api-Key": "secret", "Authorization": "Bearer other"},
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
        {"X-Api-Key": "secre"},
        {"X-Api-Key": ""},
        {"Authorization": "Bearer secre"},
        {"Authorization": "Bearer \udcff"},
        {"Sec-WebSocket-Protocol": "goodspeed.chat"},
        {"Sec-WebSocket-Protocol": "secret"},
    ],
)
def test_anything_else_bears_no_token(headers: dict[str, str]) -> None:
    assert not bears_token(headers, "secret")


ORIGINS = frozenset({"https://chat.example", "http://other.example:3000", "*.local", "null"})


@pytest.mark.parametrize(
    "origin",
    [
        "https://chat.example",
        "https://CHAT.example",
        "http://other.example:3000",
        "http://desk.local",
        "https://a.b.local:8443",
        "null",
    ],
)
def test_pages_that_the_owner_named_are_let_in(origin: str) -> None:
    assert Access(allowed_origins=ORIGINS).lets_in_pages_of(origin)
    assert not Access().lets_in_pages_of(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "http://chat.example",
        "https://chat.example:444",
        "https://chat.example.evil",
        "http://other.example",
        "http://local",
        "http://.local",
        "http://desk.local.evil",
        "http://evillocal",
        "file://desk.local",
        "http://[",
        "",
    ],
)
def test_no_other_page_is_let_in(origin: str) -> None:
    assert not Access(allowed_origins=ORIGINS).lets_in_pages_of(origin)
