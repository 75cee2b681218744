"""A link that is kept up: what its owner is told, and how long the keeper waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import pytest
from aiohttp import web

import edge_agent.link.backoff
from edge_agent.link.backoff import MAX_DELAY_SECONDS, REFUSED_DELAY_SECONDS
from edge_agent.link.keeper import LinkEnd, LinkKeeper
from edge_agent.link.link import Link
from shared.errors import AuthRejected, LinkLost, RemoteProtocolError
from shared.protocol.messages import (
    PROTOCOL_VERSION,
    GoingAway,
    Hello,
    Verdict,
    VerifierMessage,
    Welcome,
)
from tests.support.ends.fake_verifier import VerifierSide, fake_verifier, serving
from tests.support.ends.scripted import board
from tests.support.ends.waiting import eventually

HELLO = Hello(protocol_version=PROTOCOL_VERSION)
VERDICT = Verdict(0, 0, 0, b"")
NO_PORT = "ws://127.0.0.1:1"
NO_JITTER, FULL_JITTER = 0.0, 1.0


class EnoughError(Exception):
    """The owner wants no further attempt."""


class Owner:
    """Notes what it is told; gives up after `num_losses`."""

    def __init__(self, num_losses: int, *, awaits_link: bool = False) -> None:
        self.awaits_link = awaits_link
        self.told: list[object] = []
        self.delays: list[float] = []
        self.errors: list[LinkEnd] = []
        self._num_losses = num_losses

    def take_link(self, link: Link, welcome: Welcome) -> None:
        assert link.takes_streams
        self.told.append(welcome.target_model)

    def receive(self, message: VerifierMessage, num_bytes: int) -> None:
        self.told.append(message)

    def lose_link(self, error: LinkEnd, delay_seconds: float) -> None:
        self.told.append(type(error))
        self.delays.append(delay_seconds)
        self.errors.append(error)
        if len(self.errors) == self._num_losses:
            raise EnoughError


async def keep(url: str, owner: Owner, jitter: float = NO_JITTER) -> None:
    async with aiohttp.ClientSession() as session:
        await LinkKeeper(url, "t", HELLO, board(), owner, lambda: jitter).run(session)


async def keep_until_enough(url: str, owner: Owner, jitter: float = NO_JITTER) -> Owner:
    with pytest.raises(EnoughError):
        await keep(url, owner, jitter)
    return owner


def kept(serve: Callable[[VerifierSide], object], owner: Owner, jitter: float = NO_JITTER) -> Owner:
    async def run() -> Owner:
        async with fake_verifier(serve) as url:  # type: ignore[arg-type]
            return await keep_until_enough(url, owner, jitter)

    return asyncio.run(run())


def answered(answer: web.HTTPException, owner: Owner, jitter: float = NO_JITTER) -> Owner:
    """The owner of a link to a verifier that answers every attempt with an HTTP status."""

    async def accept(request: web.Request) -> web.StreamResponse:
        raise answer

    async def run() -> Owner:
        async with serving(accept) as url:
            return await keep_until_enough(url, owner, jitter)

    return asyncio.run(run())


@pytest.fixture
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(edge_agent.link.backoff, "AWAITED_DELAY_SECONDS", 0.001)


def test_it_connects_again_and_tells_in_order() -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.send(VERDICT)

    owner = kept(serve, Owner(3))
    assert 3 * ["fake", VERDICT, LinkLost] == owner.told


def test_a_verifier_that_breaks_the_protocol_is_tried_again() -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.socket.send_bytes(b"\xff")

    assert 2 * ["fake", RemoteProtocolError] == kept(serve, Owner(2)).told


def test_it_waits_as_long_as_a_verifier_that_leaves_asks_for() -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.send(GoingAway(7.0))

    assert [7.0] == kept(serve, Owner(1)).delays


def test_it_waits_as_long_as_a_full_verifier_asks_for() -> None:
    full = web.HTTPServiceUnavailable(headers={"Retry-After": "5"})
    assert [5.0] == answered(full, Owner(1)).delays


def test_a_refusal_waits_longest_even_if_a_client_waits() -> None:
    owner = answered(web.HTTPUnauthorized(), Owner(1, awaits_link=True), FULL_JITTER)
    assert [AuthRejected] == owner.told
    assert [REFUSED_DELAY_SECONDS] == owner.delays
    assert REFUSED_DELAY_SECONDS > MAX_DELAY_SECONDS


@pytest.mark.usefixtures("short_delays")
def test_a_verifier_that_is_not_there_is_tried_less_and_less_often() -> None:
    owner = asyncio.run(keep_until_enough(NO_PORT, Owner(4), FULL_JITTER))
    assert [0.001, 0.002, 0.004, 0.008] == owner.delays


@pytest.mark.usefixtures("short_delays")
def test_while_a_client_waits_a_verifier_that_is_not_there_is_tried_all_the_time() -> None:
    owner = asyncio.run(keep_until_enough(NO_PORT, Owner(4, awaits_link=True), FULL_JITTER))
    assert [0.001, 0.001, 0.001, 0.001] == owner.delays


@pytest.mark.usefixtures("short_delays")
def test_a_link_that_breaks_as_soon_as_it_is_there_is_tried_less_often_whoever_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that no connection here lives long enough to make up for a failure.
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAYS_PER_FAILURE", 1e6)

    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()

    owner = kept(serve, Owner(4, awaits_link=True), FULL_JITTER)
    assert [0.001, 0.002, 0.004, 0.008] == owner.delays


@pytest.mark.usefixtures("short_delays")
def test_a_connection_makes_up_for_failures_and_an_attempt_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that any connection lives long enough.
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAYS_PER_FAILURE", 1e-9)
    num_asked = 0

    async def accept(request: web.Request) -> web.StreamResponse:
        nonlocal num_asked
        num_asked += 1
        if num_asked != 3:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await VerifierSide(socket).welcome()
        await socket.close()
        return socket

    async def run() -> Owner:
        async with serving(accept) as url:
            return await keep_until_enough(url, Owner(4), FULL_JITTER)

    assert [0.001, 0.002, 0.001, 0.002] == asyncio.run(run()).delays


def test_cancelled_it_loses_no_link() -> None:
    async def run() -> Owner:
        owner = Owner(1)

        async def serve(verifier: VerifierSide) -> None:
            await verifier.welcome()
            await verifier.until_gone()

        async with fake_verifier(serve) as url:
            keeping = asyncio.create_task(keep(url, owner))
            await eventually(lambda: owner.told == ["fake"])
            keeping.cancel()
            await asyncio.wait([keeping])
            assert keeping.cancelled()
        return owner

    assert ["fake"] == asyncio.run(run()).told
