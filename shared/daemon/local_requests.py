"""Whether a request comes from this machine and is meant for it: pure.

A connection from a loopback address proves little: a proxy on the same machine passes on what all
the world asks, and a page of another site can make a browser look its name up as 127.0.0.1 (DNS
rebinding). The Host header then holds that other name, and proxies add headers of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import hdrs

from shared.config.addresses import is_loopback

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

_FORWARDING_HEADERS = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"}
)
_FORWARDING_PREFIX = "x-forwarded"  # -for, -host, -proto, -port, -server …


def is_allowed_host(host_header: str, allowed_hosts: frozenset[str]) -> bool:
    """Whether the header, without its port, is one of the hosts; `*.local` stands for all in it."""
    try:
        host = urlsplit(f"//{host_header}").hostname
    except ValueError:
        return False
    if not host:
        return False
    return host in allowed_hosts or any(
        name.startswith("*.") and host.endswith(name[1:]) and host != name[1:]
        for name in allowed_hosts
    )


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a proxy says that it passes on what another has asked."""
    names = {name.lower() for name in headers}
    return bool(names & _FORWARDING_HEADERS) or any(
        name.startswith(_FORWARDING_PREFIX) for name in names
    )


def is_local(remote: str | None, headers: Mapping[str, str]) -> bool:
    """Whether a program on this machine asks for it by a name of this machine, and no proxy does.

    A proxy that adds no header and asks for `localhost` cannot be told from such a program.
    """
    return (
        is_loopback(remote or "")
        and is_allowed_host(headers.get(hdrs.HOST, ""), LOOPBACK_HOSTS)
        and not is_forwarded(headers)
    )
