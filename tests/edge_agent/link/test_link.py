"""One connection: how it begins, what it carries, and why it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
import msgspec
import pytest
from aiohttp import web

from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.link import link as link_module
from edge_agent.link.link import Link, OtherVocabulary, make_hello
from shared.errors import (
    AuthRejected,
    HandshakeRejected,
    LinkLost,
    LocalProtocolError,
    RemoteProtocolError,
    VerifierLoading,
)
from shared.protocol.fingerprint import Difference
from shared.protocol.messages import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Cancel,
    Error,
    ErrorCode,
    GoingAway,
    Goodbye,
    Hello,
    Open,
    OpenPart,
    Verdict,
    VerifierMessage,
    Welcome,
)
from tests.support.ends.fake_verifier import WELCOME, Serve, VerifierSide, fake_verifier, serving
from tests.support.ends.scripted import board
from tests.support.ends.waiting import eventually
from tests.support.network.narrow_uplink import narrow_uplink

HELLO = Hello(protocol_version=PROTOCOL_VERSION, agent_version="1", draft_model="small")
VERDICT = Verdict(0, 0, 0, b"\x01\x00")


@dataclass
class Callbacks:
    """What the link told its owner."""

    welcomes: list[Welcome] = field(default_factory=list)
    received: list[tuple[VerifierMessage, int]] = field(default_factory=list)

    def link(self) -> Link:
        return Link(
            HELLO,
            SharedVocabulary(board()),
            lambda message, num_bytes: self.received.append((message, num_bytes)),
            lambda _, welcome: self.welcomes.append(welcome),
        )


async def end_of(url: str, callbacks: Callbacks | None = None, token: str = "t") -> Exception:
    """The exception that a link ends with."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(Exception) as ending:
            await (callbacks or Callbacks()).link().run(session, url, token)
    return ending.value


def end_with(serve: Serve, callbacks: Callbacks | None = None) -> Exception:
    async def run() -> Exception:
        async with fake_verifier(serve) as url:
            return await end_of(url, callbacks)

    return asyncio.run(run())


def test_it_greets_and_passes_messages_on() -> None:
    hellos: list[Hello] = []

    async def serve(verifier: VerifierSide) -> None:
        hellos.append(await verifier.welcome())
        await verifier.send(VERDICT)
        await verifier.send(Error("model", "sorry", channel=3))

    callbacks = Callbacks()
    ending = end_with(serve, callbacks)
    assert [HELLO] == hellos
    assert ["fake"] == [welcome.target_model for welcome in callbacks.welcomes]
    assert [VERDICT, Error("model", "sorry", channel=3)] == [m for m, _ in callbacks.received]
    assert isinstance(ending, LinkLost)
    assert "the verifier closed the connection" == str(ending)


def test_bytes_on_the_wire_count_payload_and_frame_header() -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.send(VERDICT)

    callbacks = Callbacks()
    end_with(serve, callbacks)
    # [67, 0, 0, 0, b"..."]: array, type, three small numbers, 2 + 2 bytes; then 2 of the frame.
    assert [9 + 2] == [num_bytes for _, num_bytes in callbacks.received]
    assert 3 + 6 == callbacks.link().send(Cancel(3))


def test_it_sends_the_token_as_bearer() -> None:
    seen: list[str | None] = []

    async def accept(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        raise web.HTTPUnauthorized

    async def run() -> Exception:
        async with serving(accept) as url:
            return await end_of(url + "/", token="gsd_board_secret")

    assert isinstance(asyncio.run(run()), AuthRejected)
    assert ["Bearer gsd_board_secret"] == seen


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (web.HTTPUnauthorized(), AuthRejected("the verifier does not accept this device's token")),
        (web.HTTPForbidden(), AuthRejected("the verifier does not accept this device's token")),
        (
            web.HTTPServiceUnavailable(headers={"Retry-After": "7"}),
            LinkLost("the verifier answered 503", 7.0),
        ),
        (
            web.HTTPServiceUnavailable(headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
            LinkLost("the verifier answered 503"),
        ),
        (web.HTTPNotFound(), LinkLost("the verifier answered 404")),
        (
            web.HTTPServiceUnavailable(headers={"X-Goodspeed-Loading": "43"}),
            VerifierLoading("43"),
        ),
        (
            web.HTTPServiceUnavailable(headers={"X-Goodspeed-Loading": "", "Retry-After": "1"}),
            VerifierLoading("", 1.0),
        ),
        (
            web.HTTPServiceUnavailable(headers={"X-Goodspeed-Loading": "much"}),
            VerifierLoading("much"),
        ),
    ],
)
def test_an_answer_that_is_no_upgrade_says_what_to_do(
    answer: web.HTTPException, expected: Exception
) -> None:
    async def accept(request: web.Request) -> web.StreamResponse:
        raise answer

    async def run() -> Exception:
        async with serving(accept) as url:
            return await end_of(url)

    ending = asyncio.run(run())
    assert (type(expected), str(expected)) == (type(ending), str(ending))
    assert vars(expected) == vars(ending)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("43", "the verifier is loading its model (43 %)"),
        ("", "the verifier is loading its model"),
        ("much", "the verifier is loading its model"),
        ("9" * 99, "the verifier is loading its model"),
    ],
)
def test_a_verifier_that_loads_is_told_of_with_a_percentage_that_is_one(
    told: str, expected: str
) -> None:
    assert expected == str(VerifierLoading(told))


def test_a_host_that_nobody_listens_on_cannot_be_reached() -> None:
    async def accept(request: web.Request) -> web.StreamResponse:
        raise AssertionError

    async def run() -> tuple[str, Exception]:
        async with serving(accept) as url:
            pass
        return url, await end_of(url)

    url, ending = asyncio.run(run())
    assert isinstance(ending, LinkLost)
    assert str(ending) == (
        f"cannot reach the verifier at {url}: nothing listens there: is the verifier started, and "
        "the port right?"
    )


def test_a_host_whose_name_is_not_known_cannot_be_reached() -> None:
    ending = asyncio.run(end_of("ws://nowhere.invalid:8443"))
    assert str(ending).startswith(
        "cannot reach the verifier at ws://nowhere.invalid:8443: its name is not found ("
    )


def test_a_host_that_does_not_answer_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "CONNECT_TIMEOUT_SECONDS", 0.1)

    async def accept(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> Exception:
        async with serving(accept) as url:
            return await end_of(url)

    assert "no answer within 0.1 s" in str(asyncio.run(run()))


def test_a_verifier_that_does_not_greet_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "CONNECT_TIMEOUT_SECONDS", 0.5)

    async def serve(verifier: VerifierSide) -> None:
        await verifier.until_gone()

    ending = end_with(serve)
    assert isinstance(ending, LinkLost)
    assert "the verifier did not answer the greeting within 0.5 s" == str(ending)


VOCABULARY_ERROR = Error(
    ErrorCode.VOCABULARY,
    "draft model small has another vocabulary than big",
    difference=Difference(block=0, token_bytes=(b"<s>",)),
)


@pytest.mark.parametrize(
    ("answer", "error_type", "sentence"),
    [
        (
            Error(ErrorCode.VERSION, "agent speaks protocol 1, verifier 2"),
            HandshakeRejected,
            "agent speaks protocol 1, verifier 2; this is protocol 2",
        ),
        (
            VOCABULARY_ERROR,
            OtherVocabulary,
            "draft model small has another vocabulary than big: "
            "token id 0 is b'<|end|>' here and b'<s>' there",
        ),
        (
            Error(ErrorCode.LIMIT, "no Hello came within 10 s"),
            LinkLost,
            "the verifier ended the connection: no Hello came within 10 s",
        ),
        (
            msgspec.structs.replace(WELCOME, protocol_version=3),
            HandshakeRejected,
            "the verifier speaks protocol 3; this is protocol 2",
        ),
        (VERDICT, RemoteProtocolError, "Verdict is not allowed while greeting"),
        (
            Error(ErrorCode.TOKEN_IN_USE, "another agent is connected"),
            HandshakeRejected,
            "another agent is connected",
        ),
    ],
)
def test_a_greeting_may_be_refused(
    answer: VerifierMessage, error_type: type[Exception], sentence: str
) -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.next_of(Hello)
        await verifier.send(answer)
        await verifier.until_gone()

    ending = end_with(serve)
    assert (error_type, sentence) == (type(ending), str(ending))


@pytest.mark.parametrize(
    ("packed", "sentence"),
    [
        ("hello", "text frames are not allowed"),
        (b"\xc1", "message is not valid MessagePack: FormatError"),
        (b"\x91\x07", "message is not allowed: Invalid value 7 - at `$[0]`"),
        (
            bytes(MAX_MESSAGE_BYTES + 1),
            f"websocket frame is not allowed: Message size {MAX_MESSAGE_BYTES + 1} "
            f"exceeds limit {MAX_MESSAGE_BYTES}",
        ),
    ],
)
def test_a_verifier_that_breaks_the_protocol_is_left(packed: str | bytes, sentence: str) -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        if isinstance(packed, str):
            await verifier.socket.send_str(packed)
        else:
            await verifier.socket.send_bytes(packed)
        await verifier.until_gone()

    ending = end_with(serve)
    assert (RemoteProtocolError, sentence) == (type(ending), str(ending))


def test_a_verifier_that_goes_away_says_when_to_come_back() -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.send(GoingAway(3.5))

    ending = end_with(serve)
    assert isinstance(ending, LinkLost)
    assert 3.5 == ending.retry_after_seconds


def test_a_ping_on_a_connection_that_has_just_broken_is_a_reason_to_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`receive` answers pings itself: an hour of soak ended 194 boards by that error."""

    async def breaks(websocket: aiohttp.ClientWebSocketResponse, message: bytes = b"") -> None:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.socket.ping(b"there?")
        await verifier.until_gone()

    monkeypatch.setattr(aiohttp.ClientWebSocketResponse, "pong", breaks)
    ending = end_with(serve)
    assert isinstance(ending, LinkLost)
    sentence = "the connection to the verifier broke: Cannot write to closing transport"
    assert sentence == str(ending)


def test_a_newer_connection_of_this_device_is_a_reason_to_try_again() -> None:
    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.send(Error(ErrorCode.REPLACED, "a newer connection took over"))
        await verifier.until_gone()

    ending = end_with(serve)
    assert isinstance(ending, LinkLost)
    assert "the verifier ended the connection: a newer connection took over" == str(ending)


def test_every_agent_tells_an_id_of_its_own() -> None:
    def instance_id() -> int:
        hello = make_hello(board(), context_tokens=9, draft_token_seconds=0.0, max_streams=1)
        return hello.instance_id

    assert 0 < instance_id() != instance_id() > 0


async def while_open(serve: Serve, use: Callable[[Link], None]) -> BaseException | None:
    """Run a link, `use` it as soon as it is open, then cancel it; how it ended before that."""
    callbacks = Callbacks()
    link = callbacks.link()
    async with fake_verifier(serve) as url, aiohttp.ClientSession() as session:
        running = asyncio.create_task(link.run(session, url, "t"))
        await eventually(lambda: bool(callbacks.welcomes))
        use(link)
        await asyncio.wait([running], timeout=0.5)
        running.cancel()
        await asyncio.wait([running])
        return None if running.cancelled() else running.exception()


def test_cancelled_it_says_goodbye() -> None:
    received: list[object] = []

    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.until_gone()
        received.extend(verifier.received[1:])

    def send(link: Link) -> None:
        assert link.takes_streams
        link.send(Cancel(1))

    assert asyncio.run(while_open(serve, send)) is None
    assert [Cancel(1), Goodbye()] == received


def test_parts_of_a_long_prompt_let_other_messages_pass() -> None:
    received: list[object] = []

    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.until_gone()
        received.extend(verifier.received[1:])

    parts = [OpenPart(1, number, text="x" * 20_000, goes_on=number < 3) for number in (1, 2, 3)]

    def send(link: Link) -> None:
        assert link.send_parts(parts) > 60_000
        link.send(Cancel(2))

    assert asyncio.run(while_open(serve, send)) is None
    assert [Cancel(2), *parts, Goodbye()] == received


def test_on_a_narrow_uplink_a_message_overtakes_a_long_prompt() -> None:
    parts = [OpenPart(1, number, text="x" * 32_000, goes_on=number < 30) for number in range(1, 31)]

    async def scenario() -> list[object]:
        received: list[object] = []

        async def serve(verifier: VerifierSide) -> None:
            await verifier.welcome()
            while Cancel(2) not in verifier.received:
                await verifier.next()
            received.extend(verifier.received[1:])

        link = Callbacks().link()
        async with (
            fake_verifier(serve) as url,
            narrow_uplink(int(url.rsplit(":", 1)[1]), 256_000) as port,
            aiohttp.ClientSession() as session,
        ):
            running = asyncio.create_task(link.run(session, f"ws://127.0.0.1:{port}", "t"))
            await eventually(lambda: link.takes_streams)
            link.send_parts(parts)
            await asyncio.sleep(0.3)
            link.send(Cancel(2))
            await eventually(lambda: bool(received), 10)
            running.cancel()
            await asyncio.wait([running])
        return received

    # What 0.3 s carry, what websocket and kernel have taken: less than a second's worth in all.
    assert asyncio.run(scenario()).index(Cancel(2)) <= 12


def test_more_messages_than_can_wait_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_QUEUED_MESSAGES", 4)

    async def serve(verifier: VerifierSide) -> None:
        await verifier.welcome()
        await verifier.until_gone()

    def overrun(link: Link) -> None:
        assert [9, 9, 9, 9, 0] == [link.send(Cancel(1)) for _ in range(5)]

    ending = asyncio.run(while_open(serve, overrun))
    assert isinstance(ending, LinkLost)


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        Callbacks().link().send(Open(0, 0, text="x" * MAX_MESSAGE_BYTES))
