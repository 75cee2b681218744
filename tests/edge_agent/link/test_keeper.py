"""A link that is kept up: what its owner is told, and how long the keeper waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
import pytest
from aiohttp import web

import edge_agent.link.backoff
from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.link.backoff import MAX_DELAY_SECONDS, REFUSED_DELAY_SECONDS
from edge_agent.link.keeper import MAX_RECONCILIATIONS, LinkEnd, LinkKeeper
from edge_agent.link.link import Link, OtherVocabulary
from shared.errors import AuthRejected, LinkLost, RemoteProtocolError, TokenRevoked
from shared.protocol.fingerprint import Difference, fingerprint, first_difference
from shared.protocol.messages import (
    PROTOCOL_VERSION,
    Error,
    ErrorCode,
    GoingAway,
    Hello,
    Verdict,
    VerifierMessage,
    Welcome,
)
from tests.support.ends.fake_verifier import WELCOME, VerifierSide, fake_verifier, serving
from tests.support.ends.scripted import board
from tests.support.ends.waiting import eventually

OWN = board().token_bytes
HELLO = Hello(protocol_version=PROTOCOL_VERSION, fingerprint=fingerprint(OWN))
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
        await LinkKeeper(url, "t", HELLO, SharedVocabulary(board()), owner, lambda: jitter).run(
            session
        )


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


Accept = Callable[[web.Request], Awaitable[web.StreamResponse]]


def revoking() -> Accept:
    """A verifier that welcomes a board once, then revokes its token and knows it no more."""
    attempts = 0

    async def accept(request: web.Request) -> web.StreamResponse:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            raise web.HTTPUnauthorized
        socket = web.WebSocketResponse(compress=False, timeout=0.2)
        await socket.prepare(request)
        verifier = VerifierSide(socket)
        await verifier.welcome()
        await verifier.send(Error(ErrorCode.REVOKED, "this device's token was revoked"))
        await socket.close()
        return socket

    return accept


@pytest.fixture
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(edge_agent.link.backoff, "AWAITED_DELAY_SECONDS", 0.001)


@pytest.fixture
def short_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.link.backoff, "REFUSED_DELAY_SECONDS", 0.001)


def test_it_connects_again_and_tells_in_order() -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.send(VERDICT)

    owner = kept(serve, Owner(3))
    assert 3 * ["fake", VERDICT, LinkLost] == owner.told


def test_a_board_whose_token_was_revoked_says_so_and_asks_seldom() -> None:
    """Later the verifier only says that it does not know the token."""

    async def scene() -> Owner:
        owner = Owner(3)
        async with serving(revoking()) as url, aiohttp.ClientSession() as session:
            keeper = LinkKeeper(
                url, "t", HELLO, SharedVocabulary(board()), owner, lambda: FULL_JITTER
            )
            running = asyncio.create_task(keeper.run(session))
            await eventually(lambda: len(owner.errors) == 1)
            keeper.replace_access("t", None)  # in place of a minute's wait; the memory goes too
            await eventually(lambda: len(owner.errors) == 2)
            keeper.replace_access("t", None)
            with pytest.raises(EnoughError):
                await running
        return owner

    owner = asyncio.run(scene())
    assert [TokenRevoked, AuthRejected, AuthRejected] == [type(error) for error in owner.errors]
    assert 3 * [REFUSED_DELAY_SECONDS] == owner.delays


def test_what_was_said_of_a_revoked_token_is_remembered(short_refusals: None) -> None:
    async def scene() -> Owner:
        async with serving(revoking()) as url:
            return await keep_until_enough(url, Owner(3), FULL_JITTER)

    owner = asyncio.run(scene())
    assert 3 * [TokenRevoked] == [type(error) for error in owner.errors]
    assert "was revoked at the verifier; `goodspeed-verifier token add`" in str(owner.errors[-1])


def test_a_verifier_that_breaks_the_protocol_is_tried_again() -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.socket.send_bytes(b"\xff")

    assert 2 * ["fake", RemoteProtocolError] == kept(serve, Owner(2)).told


class Vocabularies:
    """Verifiers that come one after the other, each as long as it has not welcomed the board."""

    def __init__(self, *known: Sequence[bytes]) -> None:
        self._known = list(known)
        self.num_greetings = 0

    async def serve(self, verifier: VerifierSide) -> None:
        hello = await verifier.next_of(Hello)
        self.num_greetings += 1
        target = self._known[0]
        difference = first_difference(fingerprint(target), hello.fingerprint, target)
        if difference is None:
            del self._known[0]
            await verifier.send(WELCOME)
            return
        await verifier.send(Error(ErrorCode.VOCABULARY, "others", difference=difference))
        await verifier.until_gone()


def greeted(*known: Sequence[bytes], num_losses: int) -> tuple[Owner, int]:
    verifiers, owner = Vocabularies(*known), Owner(num_losses)
    kept(verifiers.serve, owner)
    return owner, verifiers.num_greetings


def test_ids_that_one_side_alone_has_are_agreed_on_at_once(short_delays: None) -> None:
    owner, num_greetings = greeted(OWN[:50], num_losses=1)
    assert (["fake", LinkLost], 2) == (owner.told, num_greetings)


def test_a_verifier_with_other_ids_is_agreed_with_as_well(short_delays: None) -> None:
    more = [*OWN, b"more", b"and more"]
    owner, num_greetings = greeted(OWN[:50], more, OWN, num_losses=3)
    assert (3 * ["fake", LinkLost], 2 + 2 + 2) == (owner.told, num_greetings)


def test_a_real_difference_is_final_also_behind_other_verifiers(short_delays: None) -> None:
    owner, _ = greeted(OWN[:50], [*OWN[:55], b"other"], num_losses=2)
    assert ["fake", LinkLost, OtherVocabulary] == owner.told
    assert f"token id 55 is {OWN[55]!r} here and b'other' there" in str(owner.errors[1])
    assert owner.delays[1] > 60


def test_greetings_have_an_end() -> None:
    """A verifier that never has enough of differences is refused like any other."""

    async def serve(verifier: VerifierSide) -> None:
        await verifier.next_of(Hello)
        nonlocal num_greetings
        num_greetings += 1
        difference = Difference(0, (*OWN, b"%d" % num_greetings))
        await verifier.send(Error(ErrorCode.VOCABULARY, "others", difference=difference))
        await verifier.until_gone()

    num_greetings = 0
    assert [OtherVocabulary] == kept(serve, Owner(1)).told
    assert MAX_RECONCILIATIONS + 1 == num_greetings


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
