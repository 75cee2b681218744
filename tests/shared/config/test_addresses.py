"""What a host's name or address tells."""

from __future__ import annotations

import pytest

from shared.config.addresses import is_loopback, is_near


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "::1%lo"])
def test_this_machine_is_loopback_and_near(host: str) -> None:
    assert is_loopback(host)
    assert is_near(host)


@pytest.mark.parametrize(
    "host",
    [
        *("192.168.1.7", "10.0.0.1", "fe80::1%eth0", "fd00::1", "pi5.local", "a.home.arpa"),
        *("gpu1.lan", "gpu1.lan.", "nas.home", "host.docker.internal"),
        *("verifier", "gpu-1", "my_verifier"),  # services of docker compose
        *("100.64.0.1", "100.127.255.254", "fd7a:115c:a1e0::1", "gpu1.tail1234.ts.net"),
    ],
)
def test_private_networks_are_near_and_not_loopback(host: str) -> None:
    assert not is_loopback(host)
    assert is_near(host)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "", "::", "8.8.8.8", "2600::1", "example.org", "local", "127.0.0.1.example.org"],
)
def test_nothing_else_is_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("8.8.8.8", "2600::1", "example.org", "10.0.0", "100.63.255.255", "100.128.0.1"),
        *("", ".", "lan.example.org", "ts.net.example.org"),
        "134744072",  # 8.8.8.8, as some resolvers take it
    ],
)
def test_public_hosts_are_not_near(host: str) -> None:
    assert not is_near(host)
