"""What comes from this machine, and what only seems to."""

from __future__ import annotations

import pytest

from shared.daemon.local_requests import (
    LOOPBACK_HOSTS,
    is_allowed_host,
    is_forwarded,
    is_local,
)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8090", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8090"]
)
def test_loopback_goes_by_its_names_with_any_port(host: str) -> None:
    assert is_allowed_host(host, LOOPBACK_HOSTS)


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example:8090", "127.0.0.2", "[::1", "user@evil"]
)
def test_other_names_are_not_this_board(host: str) -> None:
    assert not is_allowed_host(host, LOOPBACK_HOSTS)


PROXIED = [
    {"X-Forwarded-For": "203.0.113.9"},
    {"x-forwarded-proto": "https"},
    {"Forwarded": "for=203.0.113.9"},
    {"X-Real-IP": "203.0.113.9"},
    {"Via": "1.1 proxy"},
    {"CF-Connecting-IP": "203.0.113.9"},
]


@pytest.mark.parametrize("headers", PROXIED)
def test_a_proxy_gives_itself_away(headers: dict[str, str]) -> None:
    assert is_forwarded(headers)
    assert not is_local("127.0.0.1", {"Host": "127.0.0.1:8443", **headers})


@pytest.mark.parametrize(
    ("remote", "host", "is_here"),
    [
        ("127.0.0.1", "127.0.0.1:8443", True),
        ("::1", "[::1]:8443", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "goodspeed.example", False),
        ("127.0.0.1", "", False),
        ("192.168.1.9", "localhost", False),
        (None, "localhost", False),
    ],
)
def test_a_program_of_this_machine_asks_from_it_and_for_it(
    remote: str | None, host: str, is_here: bool
) -> None:
    assert is_here is is_local(remote, {"Host": host, "Accept": "*/*"})


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("desk.local", True),
        ("a.desk.local:8090", True),
        ("local", False),
        (".local", False),
        ("desk.local.evil", False),
        ("evillocal", False),
        ("board.example:80", True),
        ("a.board.example", False),
    ],
)
def test_a_star_stands_for_every_name_before_it(host: str, is_allowed: bool) -> None:
    assert is_allowed is is_allowed_host(host, frozenset({"*.local", "board.example"}))
