"""Boards reach their verifier over IPv6, and past a proxy that is meant for the internet."""

from __future__ import annotations

import asyncio
import socket

import pytest

from edge_agent.generation.generation import GenerationRequest
from shared.daemon.http_server import listen
from shared.speculation.sampling import GREEDY
from tests.support.ends.loopback import (
    Verifier,
    chat,
    generate,
    make_server,
    running_agent,
    running_verifier,
)
from tests.support.ends.scripted import board, scripted_service, target_text
from verifier.server.device_tokens import new_token

REQUEST = GenerationRequest(messages=chat("hello"), sampling=GREEDY, seed=1, max_tokens=20)
NO_PROXY_THERE = "http://127.0.0.1:1"


def test_a_proxy_in_the_environment_is_not_asked_for_the_verifier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "ws_proxy", "wss_proxy", "all_proxy"):
        monkeypatch.setenv(name, NO_PROXY_THERE)
        monkeypatch.setenv(name.upper(), NO_PROXY_THERE)

    async def scene() -> str:
        async with (
            running_verifier(scripted_service()) as verifier,
            running_agent(verifier, board()) as agent,
        ):
            return (await generate(agent, REQUEST))[0]

    assert target_text(REQUEST) == asyncio.run(scene())


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_verifier_is_reached_by_an_ipv6_address() -> None:
    async def scene() -> str:
        token, line = new_token("board", bytes(range(32)))
        service = scripted_service()
        server = make_server(service, dict([line.split()]))
        sockets = listen("::1", 0)
        await server.start(sockets)
        try:
            port = sockets[0].getsockname()[1]
            verifier = Verifier(service, server, port, {"board": token})
            url = f"ws://[::1]:{port}"
            async with running_agent(verifier, board(), url=url) as agent:
                return (await generate(agent, REQUEST))[0]
        finally:
            await server.stop()

    assert target_text(REQUEST) == asyncio.run(scene())
