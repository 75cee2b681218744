"""A verifier makes itself known on its network by mDNS, and a board finds it (RFC 6763).

What is found is what some machine of the network says: nothing may be sent there before a person
has agreed. The package `zeroconf` does the work; the extra `discovery` brings it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec

import msgspec

from shared.config.addresses import is_loopback
from shared.daemon.peer_text import one_line
from shared.errors import ConfigError

SERVICE_TYPE = "_goodspeed._tcp.local."
# Answers come within 0.1 s on a quiet network; a board on a radio link may sleep longer.
SEARCH_SECONDS = 3.0
_DETAILS_MILLISECONDS = 1000
_MOST_FOUND = 64
_ANYWHERE = ("", "0.0.0.0", "::")


class FoundVerifier(msgspec.Struct, frozen=True, order=True):
    """What one machine says of itself."""

    host: str  # its name, gpu1.local
    address: str
    port: int
    speaks_tls: bool

    @property
    def url(self) -> str:
        """Where a board would connect; by address, which every board can reach."""
        return f"{'wss' if self.speaks_tls else 'ws'}://{self.address}:{self.port}"


def check_discovery(where: str) -> None:
    """Make sure that there is mDNS; `where`: the setting or option that asks for it.

    Raises:
        ConfigError: `zeroconf` is not installed.
    """
    if find_spec("zeroconf") is None:
        raise ConfigError((f"{where}: takes a package: pip install 'goodspeed[discovery]'",))


@asynccontextmanager
async def advertised(host: str, port: int, *, speaks_tls: bool) -> AsyncIterator[None]:
    """Answer those who look for a verifier, as long as the block runs.

    `host`: the address that it listens on. It tells name, port, and whether it speaks TLS.
    """
    from zeroconf import InterfaceChoice
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    name = socket.gethostname().partition(".")[0]
    info = AsyncServiceInfo(
        SERVICE_TYPE,
        f"{name}.{SERVICE_TYPE}",
        port=port,
        parsed_addresses=_addresses(host),
        properties={"tls": "1" if speaks_tls else "0"},
        server=f"{name}.local.",
    )
    interfaces = ["127.0.0.1"] if is_loopback(host) else InterfaceChoice.All
    responder = AsyncZeroconf(interfaces=interfaces)
    try:
        await (await responder.async_register_service(info, allow_name_change=True))
        yield
    finally:
        await responder.async_close()


async def find_verifiers(
    seconds: float = SEARCH_SECONDS, interfaces: Sequence[str] | None = None
) -> list[FoundVerifier]:
    """All that answer within so long; `interfaces`: by their addresses, None: all."""
    from zeroconf import InterfaceChoice, ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

    names: dict[str, None] = {}

    def note(
        zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is not ServiceStateChange.Removed and len(names) < _MOST_FOUND:
            names[name] = None

    chosen = InterfaceChoice.All if interfaces is None else list(interfaces)
    asker = AsyncZeroconf(interfaces=chosen)
    try:
        browser = AsyncServiceBrowser(asker.zeroconf, SERVICE_TYPE, handlers=[note])
        await asyncio.sleep(seconds)
        infos = [AsyncServiceInfo(SERVICE_TYPE, name) for name in names]
        for info in infos:
            await info.async_request(asker.zeroconf, _DETAILS_MILLISECONDS)
        await browser.async_cancel()
    finally:
        await asker.async_close()
    return sorted(
        FoundVerifier(
            one_line((info.server or "").removesuffix(".")),
            address,
            info.port,
            info.properties.get(b"tls") == b"1",
        )
        for info in infos
        for address in info.parsed_addresses()[:1]
        if info.port
    )


def _addresses(host: str) -> list[str]:
    """IPv4 addresses by which others reach a port that listens there."""
    if host not in _ANYWHERE:
        found = socket.getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))
    import ifaddr  # zeroconf stands on it

    addresses = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [str(address.ip) for address in addresses if not is_loopback(str(address.ip))]
