"""Each weather does what it says to real sockets, for living connections, too."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.ends.waiting import eventually
from tests.support.network.chaos_lane import CALM, HALF_OPEN, MAX_IN_FLIGHT_BYTES, STALLED, Weather
from tests.support.network.chaos_proxy import Address, ChaosProxy, local, main, reset_transport

SLOW = Weather(delay_seconds=0.03)
A_MOMENT_SECONDS = 0.05  # what did not happen in it is taken not to happen


class Peer(asyncio.Protocol):
    """One end of a connection; keeps what arrived, which a StreamReader drops after a reset."""

    def __init__(self) -> None:
        self.received = b""
        self.sizes: list[int] = []
        self.has_ended = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.sizes.append(len(data))

    def eof_received(self) -> bool:
        self.has_ended = True
        return True  # this end stays open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    @property
    def was_reset(self) -> bool:
        return self.lost.done() and isinstance(self.lost.result(), ConnectionResetError)

    async def gets(self, expected: bytes) -> None:
        await eventually(lambda: len(self.received) >= len(expected))
        assert expected == self.received

    async def hears_nothing(self) -> None:
        num_before = len(self.received)
        await asyncio.sleep(A_MOMENT_SECONDS)
        assert (num_before, False, False) == (
            len(self.received),
            self.has_ended,
            self.lost.done(),
        )


@dataclass
class Net:
    """A proxy before a verifier that only listens, and one connection through it."""

    proxy: ChaosProxy
    agent: Peer
    verifier: Peer
    verifiers: list[Peer]

    async def connect(self) -> tuple[Peer, Peer]:
        num_before = len(self.verifiers)
        agent = await connected(self.proxy)
        await eventually(lambda: len(self.verifiers) > num_before)
        return agent, self.verifiers[-1]


async def connected(proxy: ChaosProxy) -> Peer:
    loop = asyncio.get_running_loop()
    _, agent = await loop.create_connection(Peer, *proxy.address)
    return agent


@asynccontextmanager
async def net(weather: Weather = CALM) -> AsyncIterator[Net]:
    verifiers: list[Peer] = []

    def accept() -> Peer:
        verifiers.append(Peer())
        return verifiers[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    target = Address(*server.sockets[0].getsockname())
    try:
        async with ChaosProxy(target, weather, seed=1) as proxy:
            agent = await connected(proxy)
            await eventually(lambda: proxy.num_open == len(verifiers) == 1)
            yield Net(proxy, agent, verifiers[0], verifiers)
            agent.transport.close()
    finally:
        server.close()
        for verifier in verifiers:
            verifier.transport.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    async def leaves_nothing() -> None:
        await test
        assert {asyncio.current_task()} == asyncio.all_tasks()

    asyncio.run(leaves_nothing())


def test_in_calm_weather_bytes_pass_in_both_directions() -> None:
    async def test() -> None:
        async with net() as parts:
            parts.agent.transport.write(b"draft")
            await parts.verifier.gets(b"draft")
            parts.verifier.transport.write(b"verdict")
            await parts.agent.gets(b"verdict")

    run(test())


def test_an_end_passes_and_leaves_the_other_direction_open() -> None:
    async def test() -> None:
        async with net() as parts:
            parts.agent.transport.write_eof()
            await eventually(lambda: parts.verifier.has_ended)
            parts.verifier.transport.write(b"goodbye")
            await parts.agent.gets(b"goodbye")
            parts.verifier.transport.close()
            await eventually(lambda: parts.agent.has_ended and parts.proxy.num_open == 0)

    run(test())


def test_a_reset_of_one_side_reaches_the_other() -> None:
    async def test() -> None:
        async with net() as parts:
            parts.proxy.reset()
            await eventually(lambda: parts.agent.was_reset and parts.verifier.was_reset)
            await eventually(lambda: parts.proxy.num_open == 0)
            outer = ChaosProxy(parts.proxy.address, seed=2)
            async with outer:  # what it resets, the inner proxy hears from the network
                agent = await connected(outer)
                await eventually(lambda: len(parts.verifiers) == 2)
                outer.reset(only="verifier")
                await eventually(lambda: parts.verifiers[1].was_reset)
                await agent.hears_nothing()
                agent.transport.close()

    run(test())


def test_an_end_that_meets_a_side_which_was_just_reset_is_no_error() -> None:
    async def test() -> None:
        async with net() as parts:
            parts.proxy.up = STALLED
            parts.agent.transport.write_eof()
            await parts.verifier.hears_nothing()  # the end waits in the proxy
            reset_transport(parts.verifier.transport)
            parts.proxy.up = CALM
            await eventually(lambda: parts.agent.was_reset and parts.proxy.num_open == 0)

    run(test())


def test_no_piece_comes_earlier_than_the_delay() -> None:
    async def test() -> None:
        async with net(SLOW) as parts:
            started_at = time.monotonic()
            parts.agent.transport.write(b"draft")
            await parts.verifier.gets(b"draft")
            parts.verifier.transport.write(b"verdict")
            await parts.agent.gets(b"verdict")
            assert time.monotonic() - started_at >= 2 * SLOW.delay_seconds

    run(test())


def test_the_directions_may_have_different_weather() -> None:
    async def test() -> None:
        async with net() as parts:
            parts.proxy.down = STALLED
            assert (CALM, STALLED) == (parts.proxy.up, parts.proxy.down)
            parts.verifier.transport.write(b"verdict")
            parts.agent.transport.write(b"draft")
            await parts.verifier.gets(b"draft")
            await parts.agent.hears_nothing()

    run(test())


def test_jitter_keeps_the_order() -> None:
    async def test() -> None:
        async with net(Weather(jitter_seconds=0.004)) as parts:
            for i in range(100):
                parts.agent.transport.write(bytes([i]))
                await asyncio.sleep(0)
            await parts.verifier.gets(bytes(range(100)))

    run(test())


def test_a_limited_rate_takes_its_time() -> None:
    async def test() -> None:
        async with net(Weather(bytes_per_second=20_000)) as parts:
            started_at = time.monotonic()
            parts.agent.transport.write(bytes(3000))
            await parts.verifier.gets(bytes(3000))
            seconds = time.monotonic() - started_at
            step = parts.proxy.weather.step_bytes
            assert seconds >= (3000 - step) / 20_000  # the last step leaves as its time begins
            assert max(parts.verifier.sizes) < 3000

    run(test())


def test_a_limit_that_goes_lets_the_rest_through() -> None:
    async def test() -> None:
        async with net(Weather(bytes_per_second=0.001)) as parts:
            parts.agent.transport.write(b"draft")
            await parts.verifier.gets(b"d")
            parts.proxy.weather = CALM
            await parts.verifier.gets(b"draft")

    run(test())


def test_a_trickle_brings_a_few_bytes_at_a_time() -> None:
    async def test() -> None:
        weather = Weather(piece_bytes=3, bytes_per_second=1000)
        async with net(weather) as parts:
            parts.agent.transport.write(bytes(range(20)))
            await parts.verifier.gets(bytes(range(20)))
            assert len(parts.verifier.sizes) > 1  # a busy reader gets several at once

    run(test())


def test_a_stall_holds_bytes_and_ends_until_it_is_over() -> None:
    async def test() -> None:
        async with net() as parts:
            parts.proxy.weather = STALLED
            parts.agent.transport.write(b"draft")
            parts.agent.transport.write_eof()
            await parts.verifier.hears_nothing()
            parts.proxy.weather = CALM
            await parts.verifier.gets(b"draft")
            await eventually(lambda: parts.verifier.has_ended)

    run(test())


def test_a_stalled_sender_has_to_wait() -> None:
    async def test() -> None:
        async with net(STALLED) as parts:
            text = bytes(16 * MAX_IN_FLIGHT_BYTES)
            parts.agent.transport.write(text)
            await asyncio.sleep(A_MOMENT_SECONDS)
            assert parts.agent.transport.get_write_buffer_size() > 0
            parts.proxy.weather = CALM
            await parts.verifier.gets(text)

    run(test())


def test_half_open_loses_bytes_and_ends_and_the_sides_hear_nothing() -> None:
    async def test() -> None:
        async with net() as parts:
            parts.agent.transport.write(b"before ")
            await parts.verifier.gets(b"before ")
            parts.proxy.weather = HALF_OPEN
            parts.verifier.transport.write(b"lost")
            parts.verifier.transport.abort()
            parts.agent.transport.write(b"lost")
            await parts.agent.hears_nothing()

    run(test())


def test_what_follows_lost_bytes_is_lost_and_a_new_connection_works() -> None:
    async def test() -> None:
        async with net(HALF_OPEN) as parts:
            parts.agent.transport.write(b"lost")
            await parts.verifier.hears_nothing()
            parts.proxy.weather = CALM
            parts.agent.transport.write(b"never")
            await parts.verifier.hears_nothing()
            agent, verifier = await parts.connect()
            agent.transport.write(b"draft")
            await verifier.gets(b"draft")
            agent.transport.close()

    run(test())


def test_a_connection_that_is_lost_stays_half_open_and_a_new_one_works() -> None:
    async def test() -> None:
        async with net() as parts:
            parts.proxy.lose("up")
            parts.agent.transport.write(b"draft")
            parts.verifier.transport.write(b"verdict")
            await parts.agent.gets(b"verdict")
            parts.proxy.lose()
            parts.verifier.transport.write(b"another")
            new_agent, new_verifier = await parts.connect()
            new_agent.transport.write(b"hello")
            await new_verifier.gets(b"hello")
            await parts.verifier.hears_nothing()
            await parts.agent.hears_nothing()
            new_agent.transport.close()

    run(test())


def test_a_half_open_connection_that_lost_nothing_goes_on() -> None:
    async def test() -> None:
        async with net(HALF_OPEN) as parts:
            parts.proxy.weather = CALM
            parts.agent.transport.write(b"draft")
            await parts.verifier.gets(b"draft")

    run(test())


@pytest.mark.parametrize("only", ["agent", "verifier"])
def test_a_reset_of_one_side_alone_is_not_heard_by_the_other(only: str) -> None:
    async def test() -> None:
        async with net() as parts:
            peers = {"agent": parts.agent, "verifier": parts.verifier}
            gone = peers.pop(only)
            (believer,) = peers.values()
            parts.proxy.reset(only=only)  # type: ignore[arg-type]
            await eventually(lambda: gone.was_reset)
            believer.transport.write(b"into the void")
            await believer.hears_nothing()

    run(test())


@pytest.mark.parametrize("num_bytes", range(6))
def test_a_cut_comes_after_exactly_so_many_bytes(num_bytes: int) -> None:
    async def test() -> None:
        async with net() as parts:
            parts.agent.transport.write(b"before")
            await parts.verifier.gets(b"before")
            parts.proxy.up = replace(CALM, cut_after_bytes=num_bytes)
            parts.agent.transport.write(b"verdict")
            await eventually(lambda: parts.verifier.was_reset and parts.agent.was_reset)
            assert b"before" + b"verdict"[:num_bytes] == parts.verifier.received

    run(test())


def test_the_same_seed_makes_the_same_jitter() -> None:
    async def draws(seed: int) -> list[float]:
        async with net() as parts, ChaosProxy(parts.proxy.address, seed=seed) as proxy:
            agent = await connected(proxy)
            await eventually(lambda: proxy.num_open == 1)
            (connection,) = proxy._connections
            found = [connection.up._jitter.random(), connection.down._jitter.random()]
            agent.transport.close()
            return found

    first, again, other = (asyncio.run(draws(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert first[0] != first[1]


def test_without_a_verifier_the_agent_is_reset() -> None:
    async def test() -> None:
        async with net() as parts:
            unused = local(1)
            async with ChaosProxy(unused) as proxy:
                agent = await connected(proxy)
                await eventually(lambda: agent.was_reset)
                assert 0 == proxy.num_connections
            assert 1 == parts.proxy.num_connections

    run(test())


@pytest.mark.parametrize("weather", [CALM, STALLED, HALF_OPEN, SLOW])
def test_the_end_resets_what_is_open_whatever_is_on_its_way(weather: Weather) -> None:
    async def test() -> None:
        async with net() as parts:
            async with ChaosProxy(parts.proxy.target, weather) as proxy:
                agent = await connected(proxy)
                await eventually(lambda: proxy.num_open == 1)
                agent.transport.write(bytes(MAX_IN_FLIGHT_BYTES))
            await eventually(lambda: agent.lost.done() and parts.verifiers[1].lost.done())
            assert 0 == proxy.num_open

    run(test())


def test_by_hand_it_forwards_and_cuts() -> None:
    async def test() -> None:
        async with net() as parts:
            to = str(parts.proxy.address)
            process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "tests.support.network.chaos_proxy",
                    "--listen",
                    "0",
                    "--to",
                    to,
                ),
                *("--delay-ms", "1", "--cut-every", "0.05"),
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            url = (await process.stdout.readline()).split()[0].decode()
            loop = asyncio.get_running_loop()
            host, port = url.removeprefix("ws://").split(":")
            _, agent = await loop.create_connection(Peer, host, int(port))
            await eventually(lambda: agent.was_reset)
            process.terminate()
            await process.communicate()

    run(test())


def test_its_help_shows_a_whole_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert "--delay-ms 100 --jitter-ms 10 --cut-every 5 --seed 1" in result.output


def test_an_address_without_a_port_is_one_sentence() -> None:
    result = CliRunner().invoke(main, ["--listen", "9000", "--to", "verifier"])
    assert 2 == result.exit_code
    assert "'verifier' does not end in a port, as in 192.168.1.10:8443" in result.output
