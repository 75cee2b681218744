"""What a host's name or address tells by itself; names are never looked up."""

from __future__ import annotations

import ipaddress

# Of this machine, mDNS (RFC 6762), docker's host, home routers (RFC 8375 and custom), and tailnets,
# whose traffic WireGuard encrypts.
_PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".home", ".ts.net")
# Of carriers and tailnets (RFC 6598): no route on the internet leads there.
_SHARED_ADDRESSES = ipaddress.ip_network("100.64.0.0/10")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_near(host: str) -> bool:
    """Whether a host is this machine or on a private network.

    So is a name of one word: docker and /etc/hosts know such names, the internet does not.
    """
    name = host.removesuffix(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        is_one_word = bool(name) and "." not in name and not name.isdigit()
        return is_one_word or name.endswith(_PRIVATE_DOMAINS)
    return address.is_private or address in _SHARED_ADDRESSES  # loopback is private, too
