"""A verifier that a board looks for at its start, where its settings name none but trust one.

It must never hand the board's token to one that the settings do not tell from others.
"""

from __future__ import annotations

import asyncio

import msgspec

from edge_agent.config import FOUND_BY_MDNS, AgentConfig
from shared.daemon.discovery import SEARCH_SECONDS, check_discovery, find_verifiers
from shared.daemon.peer_text import one_line
from shared.errors import LinkLost


def with_found_verifier(config: AgentConfig) -> AgentConfig:
    """The settings with the address of the verifier that was found, where they ask for that.

    Raises:
        ConfigError: there is no mDNS.
        LinkLost: none with TLS made itself known, or more than one.
    """
    if config.verifier.url != FOUND_BY_MDNS:
        return config
    check_discovery("verifier.url = mdns")
    found = asyncio.run(find_verifiers())
    urls = [one_line(one.url) for one in found if one.speaks_tls]
    if len(urls) == 1:
        return with_address(config, urls[0])
    if urls:
        sentence = f"{len(urls)} verifiers answered: set verifier.url to {' or '.join(urls)}"
    else:
        plain = f" ({len(found)} without TLS was not taken)" if found else ""
        sentence = (
            f"no verifier with TLS answered within {SEARCH_SECONDS:g} s{plain}: set "
            "server.advertise = true there, or verifier.url here to its address"
        )
    raise LinkLost(f"verifier.url = mdns: {sentence}")


def with_address(config: AgentConfig, url: str) -> AgentConfig:
    """The settings, had they named this address."""
    verifier = msgspec.structs.replace(config.verifier, url=url)
    return msgspec.structs.replace(config, verifier=verifier)
