"""Addresses of a verifier."""

from __future__ import annotations

import pytest

from shared.protocol.transport import http_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://kitchen:8443", "http://kitchen:8443/healthz"),
        ("ws://kitchen:8443/", "http://kitchen:8443/healthz"),
        ("wss://kitchen/goodspeed/", "https://kitchen/goodspeed/healthz"),
    ],
)
def test_http_is_spoken_where_the_websocket_is(url: str, address: str) -> None:
    assert address == http_address(url, "/healthz")
