"""TLS at a port that counts and bounds its connections, on both event loops."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from shared.daemon.strangers import StrangerLimits
from shared.daemon.tls import tls_listener as listener_module
from shared.daemon.tls.server_tls import read_server_tls
from tests.support.ends.loopback import Verifier, running_verifier
from tests.support.ends.scripted import scripted_service
from tests.support.ends.waiting import eventually
from tests.support.network.certificates import Authority

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.new_event_loop,
    uvloop.new_event_loop,
]
Scene = Callable[[Verifier], Awaitable[None]]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Any:
    return request.param


def play(loop_factory: Any, authority: Authority, scene: Scene, **options: Any) -> None:
    """Let the scene have a verifier whose port speaks TLS."""
    tls = read_server_tls(*authority.write())
    assert tls is not None

    async def with_verifier() -> None:
        async with running_verifier(scripted_service(), tls=tls, **options) as verifier:
            await scene(verifier)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(with_verifier())


async def health(port: int, trusted: Path) -> int:
    context = ssl.create_default_context(cafile=trusted)
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"https://localhost:{port}/healthz", ssl=context) as answer,
    ):
        return answer.status


def test_who_trusts_the_authority_is_answered(loop_factory: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def scene(verifier: Verifier) -> None:
        assert 200 == await health(verifier.port, authority.file)

    play(loop_factory, authority, scene)


def test_a_connection_counts_before_tls_is_agreed_on_and_goes_with_the_crowd(
    loop_factory: Any, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)

    async def scene(verifier: Verifier) -> None:
        gate = verifier.server.gate
        silent = [await asyncio.open_connection("127.0.0.1", verifier.port) for _ in range(6)]
        await eventually(lambda: gate.num_sent_away == 2)
        assert 4 == gate.num_idle
        assert b"" == await silent[0][0].read()
        assert 200 == await health(verifier.port, authority.file)
        for _, writer in silent:
            writer.close()
        await eventually(lambda: gate.num_idle == 0)

    play(loop_factory, authority, scene, max_connections=4)


def test_a_handshake_that_does_not_get_on_is_ended(
    loop_factory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "HANDSHAKE_SECONDS", 0.1)

    async def scene(verifier: Verifier) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", verifier.port)
        writer.write(b"\x16\x03\x01")  # the beginning of a ClientHello
        async with asyncio.timeout(5):
            assert b"" == await reader.read()
        writer.close()
        await eventually(lambda: verifier.server.gate.num_idle == 0)

    play(loop_factory, Authority(tmp_path), scene)


def test_plain_text_at_the_port_is_noise_that_costs_its_address(
    loop_factory: Any, tmp_path: Path
) -> None:
    async def scene(verifier: Verifier) -> None:
        gate = verifier.server.gate
        assert gate.strangers is not None
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", verifier.port)
            writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(5):
                await reader.read()
            writer.close()
        await eventually(lambda: gate.num_idle == 0)
        assert gate.strangers.seconds_until_turn("127.0.0.1", gate.time()) > 1.0

    limits = StrangerLimits.at(0.1)  # a burst of 2.5 from this machine
    play(loop_factory, Authority(tmp_path), scene, stranger_limits=limits)


def test_a_port_that_stops_breaks_handshakes_off(loop_factory: Any, tmp_path: Path) -> None:
    async def scene(verifier: Verifier) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", verifier.port)
        await eventually(lambda: verifier.server.gate.num_idle == 1)
        async with asyncio.timeout(5):
            await verifier.server.stop()
            assert b"" == await reader.read()
        writer.close()

    play(loop_factory, Authority(tmp_path), scene)


def test_another_certificate_is_shown_to_those_who_come_later(
    loop_factory: Any, tmp_path: Path
) -> None:
    authority, successor = Authority(tmp_path), Authority(tmp_path, "successor")

    async def scene(verifier: Verifier) -> None:
        context = ssl.create_default_context(cafile=authority.file)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", verifier.port, ssl=context, server_hostname="localhost"
        )
        tls = read_server_tls(*successor.write("new"))
        assert tls is not None
        verifier.server.replace_tls(tls)
        assert 200 == await health(verifier.port, successor.file)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await health(verifier.port, authority.file)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")  # the old one stays
        assert b"HTTP/1.1 200 OK\r\n" == await reader.readline()
        writer.close()

    play(loop_factory, authority, scene)
