"""The verifier's port among strangers: slow, silent, noisy, many; boards come in all the same."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp
import pytest
import uvloop

from shared.daemon import http_server
from shared.daemon.connection_gate import GateLimits
from shared.daemon.strangers import Pace, StrangerLimits
from shared.protocol.codec import decode_from_verifier, encode
from shared.protocol.messages import Error, ErrorCode, Verdict, Welcome
from tests.support.ends.loopback import Verifier, running_verifier
from tests.support.ends.raw_board import DEVICE_PATH, hello_to, raw_board
from tests.support.ends.scripted import scripted_service
from tests.support.ends.waiting import eventually
from tests.support.messages.misbehaviour import beside_a_healthy_agent, still_works
from tests.support.network.strangers import Stranger, masked_frame, stranger, strangers, upgrade
from verifier.server import connection

BINARY, RSV1, NOT_FINAL = 0x82, 0x40, 0x7F
SOON_SECONDS = 0.3
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]  # the verifier runs on the second


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier that waits for strangers no longer than a moment."""
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", SOON_SECONDS)
    soon = {"idle_seconds": 2 * SOON_SECONDS, "stall_seconds": SOON_SECONDS}
    monkeypatch.setattr(http_server, "GateLimits", lambda **given: GateLimits(**{**given, **soon}))


def misbehave(
    scenario: Callable[[Verifier], Coroutine[Any, Any, None]],
    loop_factory: LoopFactory = asyncio.new_event_loop,
) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(beside_a_healthy_agent(scenario))


# --- compression --------------------------------------------------------------------------------


async def upgraded(verifier: Verifier, one: Stranger, *headers: str) -> bytes:
    """Upgrade as the device `bad` and say Hello; the head of the answer."""
    token = f"Authorization: Bearer {verifier.tokens['bad']}"
    await one.send(upgrade(DEVICE_PATH, token, *headers))
    head = await one.head()
    await one.send(masked_frame(BINARY, encode(hello_to(verifier))))
    assert isinstance(decode_from_verifier(await one.frame()), Welcome)
    return head


OFFERS = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def test_compression_is_not_agreed_on_and_a_bomb_is_not_inflated() -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(bytes(50_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 50_000

    async def scenario(verifier: Verifier) -> None:
        async with stranger(verifier.port) as one:
            head = await upgraded(verifier, one, OFFERS)
            assert b"101 Switching Protocols" in head
            assert b"extensions" not in head.lower()
            await one.send(masked_frame(BINARY | RSV1, bomb))
            assert b"\x03\xea" == (await one.frame())[:2]  # close code 1002, protocol error
            await eventually(lambda: verifier.service.devices["bad"].outbox is None)

    misbehave(scenario)


def test_a_compressed_body_is_not_read_at_all() -> None:
    async def scenario(verifier: Verifier) -> None:
        async with stranger(verifier.port) as one:
            body = zlib.compress(bytes(10_000_000), 9)
            head = f"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            await one.send(head.encode() + b"Content-Encoding: deflate\r\n\r\n")
            await one.send(body)
            assert b"405" in await one.line()

    misbehave(scenario)


# --- slow and silent ----------------------------------------------------------------------------


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("loop_factory", LOOPS)
@pytest.mark.parametrize("said", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_connection_without_a_request_is_closed(said: bytes, loop_factory: LoopFactory) -> None:
    async def scenario(verifier: Verifier) -> None:
        async with stranger(verifier.port) as one:
            await one.send(said)
            assert b"" == await one.answer()

    misbehave(scenario, loop_factory)


@pytest.mark.usefixtures("hurried")
def test_a_head_that_trickles_in_gets_no_more_time() -> None:
    async def scenario(verifier: Verifier) -> None:
        async with stranger(verifier.port) as one:
            await one.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
            assert await one.trickle(b"X-Slow: 1\r\n") < 100

    misbehave(scenario)


@pytest.mark.usefixtures("hurried")
def test_a_body_that_trickles_in_is_not_waited_for() -> None:
    async def scenario(verifier: Verifier) -> None:
        async with stranger(verifier.port) as one:
            await one.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx")
            assert b"200 OK" in await one.line()
            await one.answer()

    misbehave(scenario)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("loop_factory", LOOPS)
def test_who_reads_no_answer_is_cut_off(loop_factory: LoopFactory) -> None:
    async def scenario(verifier: Verifier) -> None:
        async with stranger(verifier.port) as one:
            one._writer.transport.pause_reading()  # type: ignore[attr-defined]
            gate = verifier.server.gate
            await one.trickle(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 30)
            await eventually(lambda: gate.num_idle + gate.num_in_hand <= 2)

    misbehave(scenario, loop_factory)


# --- noisy --------------------------------------------------------------------------------------

NOISE = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "a line without end": b"GET /" + b"a" * 100_000,
    "headers without end": b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"a" * 100_000,
    "headers without number": b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 10_000,
    "two lengths": b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length below zero": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a chunk of no size": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("name", NOISE)
def test_noise_is_answered_or_dropped_and_not_logged(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(verifier: Verifier) -> None:
        async with stranger(verifier.port) as one:
            try:
                await one.send(NOISE[name])
            except ConnectionError:
                return
            assert (await one.answer())[:12] in (b"", b"HTTP/1.0 400", b"HTTP/1.1 404")

    misbehave(scenario)
    assert [] == [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# --- many ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_a_crowd_of_strangers_keeps_no_board_out(
    loop_factory: LoopFactory, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        service = scripted_service()
        async with (
            running_verifier(service, max_connections=50) as verifier,
            strangers(verifier.port, 500) as crowd,
            raw_board(verifier, "board") as board,
        ):
            assert verifier.server.gate.num_idle <= 50
            await still_works(board, channel=0)
            await eventually(lambda: 450 <= sum(one.is_cut for one in crowd))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())
    crowds = [message for message in caplog.messages if "ask for nothing" in message]
    assert [
        "more than 50 connections ask for nothing; the oldest of 127.0.0.1 makes room"
    ] == crowds


def test_10000_connections_one_after_the_other_leave_nothing_behind() -> None:
    async def scenario() -> None:
        async with running_verifier(scripted_service(), max_connections=50) as verifier:
            for _ in range(10_000):
                async with stranger(verifier.port):
                    pass
            gate = verifier.server.gate
            await eventually(lambda: gate.num_idle == gate.num_in_hand == 0)
            assert not verifier.server._http._runner.server.connections  # type: ignore[union-attr]

    asyncio.run(scenario())


def test_a_wrong_token_takes_no_place() -> None:
    async def scenario(verifier: Verifier) -> None:
        headers = {"Authorization": f"Bearer gsd_bad_{'A' * 43}"}
        async with aiohttp.ClientSession() as session:
            for _ in range(200):
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await session.ws_connect(verifier.url + DEVICE_PATH, headers=headers)
        assert 1 == len(verifier.server._connections)

    misbehave(scenario)


FEW = StrangerLimits(of_address=Pace(4.0, 20.0), together=Pace(40.0, 200.0))
# From a loopback address, with a wrong token: five times as much, at five times the cost.
MOST_AT_ONCE, MOST_PER_SECOND = 20, 4
GUESS = upgrade(DEVICE_PATH, f"Authorization: Bearer gsd_board_{'A' * 43}")


async def guess_on_one_connection(port: int) -> None:
    """Try tokens one after the other, as fast as they are answered, 30 at a time."""
    while True:
        async with stranger(port) as one:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await one.send(GUESS * 30)
                while await one.line():
                    pass


async def guess_on_many_connections(port: int) -> None:
    while True:
        with suppress(ConnectionError):
            async with stranger(port) as one:
                await one.send(GUESS)
                await asyncio.sleep(0)


@pytest.mark.parametrize("guess", [guess_on_one_connection, guess_on_many_connections])
@pytest.mark.parametrize("loop_factory", LOOPS)
def test_beside_strangers_who_guess_tokens_the_verdicts_of_a_board_keep_coming(
    guess: Callable[[int], Coroutine[Any, Any, None]], loop_factory: LoopFactory
) -> None:
    """However fast they ask, few of their requests are looked at; a board that comes is let in."""
    num_asked = 0

    async def scenario() -> None:
        nonlocal num_asked
        service = scripted_service(delay_seconds=lambda _: 0.001)
        async with (
            running_verifier(service, ("board", "late"), stranger_limits=FEW) as verifier,
            raw_board(verifier, "board") as board,
        ):
            loop, began_at = asyncio.get_running_loop(), asyncio.get_running_loop().time()
            guessing = [asyncio.create_task(guess(verifier.port)) for _ in range(10)]
            await board.open(max_tokens=4000)
            for _ in range(300):
                await board.next_of(Verdict)
            seconds = loop.time() - began_at
            for one in guessing:
                one.cancel()
            await asyncio.wait(guessing)
            value = service.metrics.registry.get_sample_value
            labels = {"reason": "token"}
            num_asked = int(value("goodspeed_rejected_messages_total", labels) or 0)
            # One more for each connection whose request was read before it was too much.
            assert num_asked <= MOST_AT_ONCE + MOST_PER_SECOND * seconds + 100

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())
    assert 0 < num_asked


def test_who_asks_for_too_much_is_told_so_and_let_in_again_soon() -> None:
    async def scenario(verifier: Verifier) -> None:
        async with strangers(verifier.port, 60) as guessing:
            for one in guessing:
                await one.send(GUESS)
            lines = [await one.line() for one in guessing[-10:]]
        assert any(b"429 Too Many Requests" in line for line in lines)

    async def limited() -> None:
        limits = StrangerLimits(of_address=Pace(0.4, 2.0), together=Pace(40.0, 200.0))
        async with running_verifier(scripted_service(), stranger_limits=limits) as verifier:
            await scenario(verifier)

    asyncio.run(limited())


def test_boards_that_all_come_back_at_once_are_strangers_to_nobody() -> None:
    """Their tokens are right: none of them waits, from however few addresses they come."""

    async def scenario() -> None:
        limits = StrangerLimits(of_address=Pace(0.1, 1.0), together=Pace(0.1, 1.0))
        names = [f"board-{i}" for i in range(60)]
        async with (
            running_verifier(scripted_service(), names, stranger_limits=limits) as verifier,
            AsyncExitStack() as stack,
        ):
            joining = [stack.enter_async_context(raw_board(verifier, name)) for name in names]
            await asyncio.gather(*joining)
            strangers_of_port = verifier.server.gate.strangers
            assert strangers_of_port is not None
            assert 0 == strangers_of_port.num_refused

    asyncio.run(scenario())


def test_what_waits_at_the_port_is_shown() -> None:
    async def scenario() -> list[float | None]:
        async with (
            running_verifier(scripted_service(), max_connections=5) as verifier,
            strangers(verifier.port, 9),
        ):
            await eventually(lambda: verifier.server.gate.num_sent_away > 0)
            value = verifier.service.metrics.registry.get_sample_value
            names = ("idle_connections", "connections_sent_away_total")
            return [value(f"goodspeed_{name}") for name in names]

    assert [5, 4] == asyncio.run(scenario())


def test_a_refused_greeting_is_said_and_counted() -> None:
    async def scenario(verifier: Verifier) -> None:
        async with stranger(verifier.port) as one:
            token = f"Authorization: Bearer {verifier.tokens['bad']}"
            await one.send(upgrade(DEVICE_PATH, token))
            await one.head()
            await one.send(masked_frame(BINARY, b"\xc1"))
            error = decode_from_verifier(await one.frame())
            assert isinstance(error, Error)
            assert ErrorCode.PROTOCOL == error.code

    misbehave(scenario)


@pytest.mark.parametrize("said", [masked_frame(BINARY, bytes(100))[:50], masked_frame(0x89, b"x")])
def test_neither_a_slow_greeting_nor_pings_buy_a_board_more_time(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HELLO_TIMEOUT_SECONDS", SOON_SECONDS)

    async def scenario(verifier: Verifier) -> None:
        async with stranger(verifier.port) as one:
            token = f"Authorization: Bearer {verifier.tokens['bad']}"
            await one.send(upgrade(DEVICE_PATH, token) + said)
            await one.head()
            trickling = asyncio.create_task(one.trickle(said if said[0] == 0x89 else b"x"))
            while (frame := await one.frame()) in (b"x", b""):  # pongs
                pass
            error = decode_from_verifier(frame)
            assert Error(ErrorCode.LIMIT, f"no Hello came within {SOON_SECONDS:g} s") == error
            trickling.cancel()
            await asyncio.wait({trickling})

    misbehave(scenario)
