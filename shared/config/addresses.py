"""What a host's name or address tells by itself; names are never looked up."""

from __future__ import annotations

import ipaddress

_PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".home.arpa")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_near(host: str) -> bool:
    """Whether a host is this machine or on a private network."""
    if host == "localhost" or host.endswith(_PRIVATE_DOMAINS):
        return True
    try:
        return ipaddress.ip_address(host).is_private  # loopback and link-local are private, too
    except ValueError:
        return False
