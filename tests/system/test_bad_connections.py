"""Whatever breaks a connection: one clear error, an end for it alone, no trace in others' text."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import msgpack
import msgspec
import pytest

from edge_agent.draft_model.scripted_drafter import scripted_drafter
from edge_agent.generation.agent import Agent
from shared.errors import HandshakeRejected, VerifierAway
from shared.protocol.messages import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Cancel,
    Error,
    ErrorCode,
    Goodbye,
    Hello,
    Open,
    Ready,
)
from shared.protocol.token_ids import pack_id_set
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import ScriptedModel
from tests.support.ends.limits import make_device_limits
from tests.support.ends.loopback import (
    DRAFT_SETTINGS,
    Verifier,
    generate,
    running_agent,
    running_verifier,
)
from tests.support.ends.raw_board import DEVICE_PATH, RawBoard, hello_to, raw_board
from tests.support.ends.scripted import VOCAB_SIZE, board, scripted_service
from tests.support.ends.waiting import eventually
from tests.support.messages.misbehaviour import (
    HEALTHY,
    LIKELIEST,
    beside_a_healthy_agent,
    committed,
    run_beside_a_healthy_agent,
    still_works,
)
from tests.support.network.strangers import upgrade
from verifier.server import connection
from verifier.server.sockets import outgoing


async def opens_twice(bad: RawBoard) -> None:
    await bad.open(3)
    await bad.send(Open(channel=3, stream_id=4, text="again"))


CONNECTION_ERRORS: dict[str, tuple[Callable[[RawBoard], Coroutine[Any, Any, None]], str]] = {
    "no MessagePack": (
        lambda bad: bad.send_packed(b"\xc1"),
        "message is not valid MessagePack: FormatError",
    ),
    "bytes after the message": (
        lambda bad: bad.send_packed(msgpack.packb([7]) + b"\x00"),
        "message is not valid MessagePack: unpack(b) received extra data.",
    ),
    "no array": (
        lambda bad: bad.send_packed(msgpack.packb(5)),
        "message is not allowed: Expected `array`, got `int`",
    ),
    "no type that is known": (
        lambda bad: bad.send_packed(msgpack.packb([99])),
        "message is not allowed: Invalid value 99 - at `$[0]`",
    ),
    "a message of the verifier": (
        lambda bad: bad.send_packed(msgpack.packb([69, 1.0])),
        "message is not allowed: Invalid value 69 - at `$[0]`",
    ),
    "too long": (
        lambda bad: bad.send_packed(bytes(MAX_MESSAGE_BYTES + 1)),
        f"message of {MAX_MESSAGE_BYTES + 1} bytes exceeds {MAX_MESSAGE_BYTES}",
    ),
    "text": (lambda bad: bad.socket.send_str("hello"), "text frames are not allowed"),
    "second Hello": (
        lambda bad: bad.send(Hello(protocol_version=PROTOCOL_VERSION)),
        "Hello is not allowed while open",
    ),
    "channel used before": (opens_twice, "channel 3 was used before"),
    "channel never opened": (
        lambda bad: bad.send(Ready(7)),
        "channel 7 was never opened",
    ),
    "temperature that is no number": (
        lambda bad: bad.send(Open(0, 0, text="x", sampling=SamplingParameters(float("nan")))),
        "message is not allowed: Expected `float` >= 0.0 - at `$[7][0]`",
    ),
    "infinite temperature": (
        lambda bad: bad.send(Open(0, 0, text="x", sampling=SamplingParameters(float("inf")))),
        "message is not allowed: Expected `float` <= 100.0 - at `$[7][0]`",
    ),
    "top-k below 0": (
        lambda bad: bad.send(Open(0, 0, text="x", sampling=SamplingParameters(1.0, -1))),
        "message is not allowed: Expected `int` >= 0 - at `$[7][1]`",
    ),
    "top-p of 0": (
        lambda bad: bad.send(Open(0, 0, text="x", sampling=SamplingParameters(1.0, 0, 0.0))),
        "message is not allowed: Expected `float` > 0.0 - at `$[7][2]`",
    ),
    "top-p above 1": (
        lambda bad: bad.send(Open(0, 0, text="x", sampling=SamplingParameters(1.0, 0, 1.5))),
        "message is not allowed: Expected `float` <= 1.0 - at `$[7][2]`",
    ),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_a_broken_message_ends_the_connection_with_one_error(name: str) -> None:
    send, sentence = CONNECTION_ERRORS[name]

    async def misbehave(bad: RawBoard) -> None:
        await send(bad)
        assert Error(ErrorCode.PROTOCOL, sentence) == await bad.error()
        await bad.ended()
        assert 1 == sum(isinstance(message, Error) for message in bad.received)

    run_beside_a_healthy_agent(misbehave)


def test_a_message_far_too_long_ends_the_connection_with_its_close_code() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.send_packed(bytes(3 * MAX_MESSAGE_BYTES))
        await bad.ended()
        assert aiohttp.WSCloseCode.MESSAGE_TOO_BIG == bad.socket.close_code

    run_beside_a_healthy_agent(misbehave)


def test_a_draft_before_the_greeting_ends_the_connection() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.draft(0, 0, [1])
        sentence = "Draft is not allowed while greeting"
        assert Error(ErrorCode.PROTOCOL, sentence) == await bad.error()
        await bad.ended()

    run_beside_a_healthy_agent(misbehave, greets=False)


def test_another_protocol_version_is_refused() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.send(Hello(protocol_version=1))
        sentence = "agent speaks protocol 1, verifier 2"
        assert Error(ErrorCode.VERSION, sentence) == await bad.error()
        await bad.ended()

    run_beside_a_healthy_agent(misbehave, greets=False)


def test_a_board_that_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HELLO_TIMEOUT_SECONDS", 0.05)

    async def misbehave(bad: RawBoard) -> None:
        assert Error(ErrorCode.LIMIT, "no Hello came within 0.05 s") == await bad.error()
        await bad.ended()

    run_beside_a_healthy_agent(misbehave, greets=False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer gsd_good_{'A' * 43}"},
        {"Authorization": f"Bearer gsd_nobody_{'A' * 43}"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
    ],
)
def test_a_wrong_or_missing_token_is_refused_at_the_upgrade(headers: dict[str, str]) -> None:
    async def misbehave(verifier: Verifier) -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(verifier.url + DEVICE_PATH, headers=headers)
        assert 401 == refused.value.status

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_boards_that_are_gone_before_the_upgrade_leave_no_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def misbehave(verifier: Verifier) -> None:
        token = next(iter(verifier.tokens.values()))
        head = upgrade(DEVICE_PATH, f"Authorization: Bearer {token}")
        for _ in range(3):  # each is in the kernel's hands before the verifier looks
            with socket.create_connection(("127.0.0.1", verifier.port)) as board:
                board.sendall(head)

    asyncio.run(beside_a_healthy_agent(misbehave))
    assert [] == [record for record in caplog.records if record.exc_info]


async def why_away(agent: Agent) -> str:
    """Run an agent until its first attempt has failed; what a client is told then."""
    running = asyncio.create_task(agent.run())
    sentence = not_yet = await sentence_of(agent)
    async with asyncio.timeout(10):
        while sentence == not_yet:
            await asyncio.sleep(0.005)
            sentence = await sentence_of(agent)
    running.cancel()
    await asyncio.wait([running])
    return sentence


async def sentence_of(agent: Agent) -> str:
    with pytest.raises((VerifierAway, HandshakeRejected)) as away:
        await generate(agent, HEALTHY)
    return str(away.value)


def test_clients_of_an_agent_with_a_wrong_token_are_told() -> None:
    async def misbehave(verifier: Verifier) -> None:
        agent = Agent(
            board(), DRAFT_SETTINGS, url=verifier.url, token=verifier.tokens["bad"][:-1] + "x"
        )
        assert "the verifier does not accept this device's token" == await why_away(agent)

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_an_agent_names_where_its_vocabulary_differs() -> None:
    drafter = scripted_drafter(ScriptedModel(VOCAB_SIZE + 2, 7))
    token_bytes = list(drafter.token_bytes[:VOCAB_SIZE])
    token_bytes[5], token_bytes[9] = b" other", b" words"
    drafter.token_bytes, drafter.model_name = tuple(token_bytes), "other-draft"

    async def misbehave(verifier: Verifier) -> None:
        agent = Agent(drafter, DRAFT_SETTINGS, url=verifier.url, token=verifier.tokens["bad"])
        expected = (
            "draft model other-draft has another vocabulary than scripted (66 tokens, 64 there): "
            "token id 5 is b' other' here and b' bu' there"
        )
        assert expected == await why_away(agent)

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_what_is_special_is_the_verifiers_word() -> None:
    """Readers of one file disagree about special tokens; which of them make text is one truth."""
    special_ids = frozenset(range(0, VOCAB_SIZE, 2))

    async def texts() -> tuple[str, str, tuple[int, ...]]:
        service = scripted_service()
        service.tokenizer.special_ids = special_ids
        service.packed_special_ids = pack_id_set(special_ids)
        async with running_verifier(service) as verifier:
            drafter = board()
            async with running_agent(verifier, drafter) as agent:
                text, finished = await generate(agent, HEALTHY)
            printed = [i for i in finished.token_ids if i not in special_ids]
            expected = b"".join(drafter.token_bytes[i] for i in printed).decode()
            return expected, text, finished.token_ids

    expected, text, token_ids = asyncio.run(texts())
    assert special_ids & set(token_ids)
    assert expected == text


def small_buffers(address: Any) -> socket.socket:
    """A socket that takes little from a verifier that its owner does not read."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return made


@pytest.mark.parametrize(
    ("limit", "value", "sentence"),
    [
        ("MAX_QUEUED_MESSAGES", 16, "device bad is cut off: 16 messages wait to be read"),
        ("SEND_TIMEOUT_SECONDS", 0.1, "device bad is cut off: nothing was read for 0.1 s"),
    ],
)
def test_a_board_that_never_reads_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: str,
    value: float,
    sentence: str,
) -> None:
    monkeypatch.setattr(outgoing, limit, value)

    async def misbehave(verifier: Verifier) -> None:
        prompt = "x" * 4000
        connector = aiohttp.TCPConnector(socket_factory=small_buffers)
        headers = {"Authorization": f"Bearer {verifier.tokens['bad']}"}
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.ws_connect(verifier.url + DEVICE_PATH, headers=headers) as bad_socket,
        ):
            bad = RawBoard(bad_socket, VOCAB_SIZE)
            await bad.send(hello_to(verifier))
            device = verifier.service.device("bad")
            await eventually(lambda: device.outbox is not None)
            channel = 0
            async with asyncio.timeout(30):
                while device.outbox is not None:
                    with_prompt = Open(channel, channel, text=prompt)
                    try:
                        await bad.send(with_prompt)
                        await bad.send(Cancel(channel))
                    except ConnectionError:
                        break
                    channel += 1
                    await asyncio.sleep(0)
            await eventually(lambda: device.outbox is None)

    limits = make_device_limits(messages_per_second=10_000_000)
    asyncio.run(beside_a_healthy_agent(misbehave, device_limits=limits))
    assert [sentence] == [r.getMessage() for r in caplog.records if "cut off" in r.getMessage()]


def test_a_board_that_floods_delays_nobody_for_long() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=GREEDY, max_tokens=2)
        await committed(bad, 0)
        for _ in range(3000):
            await bad.send(Ready(0))
        await still_works(bad, channel=1)

    run_beside_a_healthy_agent(misbehave)


def test_a_board_may_leave_in_the_middle_of_a_stream() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=LIKELIEST)
        await bad.window()
        await bad.send(Goodbye())
        await bad.ended()

    run_beside_a_healthy_agent(misbehave)


def test_messages_may_be_longer_than_this_version_knows() -> None:
    async def misbehave(verifier: Verifier) -> None:
        async with raw_board(verifier, "bad", greets=False) as bad:
            fields = msgspec.to_builtins(hello_to(verifier), builtin_types=(bytes,))
            await bad.send_packed(msgpack.packb([*fields, "from", "the future"]))
            await still_works(bad, channel=1)

    asyncio.run(beside_a_healthy_agent(misbehave))
