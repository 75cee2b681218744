"""A board that asks for more than its share: it is let go with a sentence, nobody else notices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import numpy as np
import pytest

from shared.protocol.draft_packing import pack_rows
from shared.protocol.messages import (
    Cancel,
    Draft,
    Error,
    ErrorCode,
    Open,
    Opened,
    Ready,
    Status,
    Verdict,
)
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.limits import make_device_limits
from tests.support.ends.loopback import Verifier, running_verifier
from tests.support.ends.raw_board import DEVICE_PATH, RawBoard, hello_to, raw_board
from tests.support.ends.scripted import VOCAB_SIZE, scripted_service
from tests.support.ends.waiting import eventually
from tests.support.ends.wired_board import WiredBoard
from tests.support.messages.misbehaviour import (
    GatedTokenizer,
    beside_a_healthy_agent,
    row,
    still_works,
)
from verifier.server.device_limits import CONNECTION_COST, DeviceLimits, DeviceUsage

# Low enough to be met at once, high enough for a connection and some streams.
FEW_MESSAGES = make_device_limits(messages_per_second=300, max_streams=8)
FEW_BYTES = make_device_limits(bytes_per_second=64 * 1024, max_streams=1)
TOO_MANY_MESSAGES = Error(ErrorCode.LIMIT, "more than 300 messages a second")
TOO_MANY_BYTES = Error(ErrorCode.LIMIT, "more than 65536 bytes a second")


def sample(verifier: Verifier, name: str, **labels: str) -> float | None:
    return verifier.service.metrics.registry.get_sample_value(f"goodspeed_{name}", labels)


async def until_refused(bad: RawBoard, send: Callable[[int], Awaitable[None]]) -> Error:
    """Send until the verifier has enough; what it says."""

    async def flood() -> None:
        with suppress(ConnectionError):  # it stopped reading before we stopped sending
            for number in range(100_000):
                await send(number)
                if number % 256 == 0:
                    await asyncio.sleep(0)

    # Read meanwhile: the connection ends for good a while after the sentence, on a busy machine
    # before all is sent.
    flooding = asyncio.create_task(flood())
    error = await bad.error()
    await bad.ended()
    flooding.cancel()
    await asyncio.wait([flooding])
    return error


# --- floods -------------------------------------------------------------------------------------

FLOODS: dict[str, Callable[[RawBoard], Callable[[int], Awaitable[None]]]] = {
    "Ready": lambda bad: lambda _: bad.send(Ready(0)),
    "Status": lambda bad: lambda _: bad.send(Status(1)),
    "drafts that come again and again": lambda bad: lambda _: bad.send(Draft(0, 0, 0, b"")),
    "pings": lambda bad: lambda _: bad.socket.ping(b"x"),
    "pongs that nobody asked for": lambda bad: lambda _: bad.socket.pong(b"x"),
    "Open": lambda bad: lambda number: bad.send(Open(number + 1, 1, text="x", sampling=GREEDY)),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_the_connection_with_one_error(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def misbehave(verifier: Verifier) -> None:
        async with raw_board(verifier, "bad") as bad:
            await bad.open(0, GREEDY, max_tokens=1)
            assert TOO_MANY_MESSAGES == await until_refused(bad, FLOODS[name](bad))
        assert sample(verifier, "rejected_messages_total", reason="limit")
        assert sample(verifier, "device_limits_exceeded_total", device="bad")
        assert 0 == sample(verifier, "device_limits_exceeded_total", device="good")

    asyncio.run(beside_a_healthy_agent(misbehave, device_limits=FEW_MESSAGES))
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert ["device bad: more than 300 messages a second"] == warnings


# Frames that never become a message are not seen by what counts messages.
EMPTY_FRAGMENTS = b"\x00\x80\0\0\0\0" * 4000


def test_a_flood_of_frames_without_a_message_ends_the_connection_too() -> None:
    async def misbehave(verifier: Verifier) -> None:
        async with raw_board(verifier, "bad") as bad:
            transport = bad.socket.get_extra_info("socket")
            assert transport is not None
            writer: Any = bad.socket._writer
            writer.transport.write(b"\x02\x80\0\0\0\0")
            assert TOO_MANY_BYTES == await until_refused(
                bad, lambda _: _write(writer.transport, EMPTY_FRAGMENTS)
            )

    asyncio.run(beside_a_healthy_agent(misbehave, device_limits=FEW_BYTES))


async def _write(transport: asyncio.Transport, data: bytes) -> None:
    if transport.is_closing():
        raise ConnectionResetError
    transport.write(data)
    await asyncio.sleep(0)


def test_long_messages_count_by_their_bytes() -> None:
    async def misbehave(verifier: Verifier) -> None:
        long = Open(0, 0, text="x" * 200_000)  # refused: longer than the context
        async with raw_board(verifier, "bad") as bad:
            assert TOO_MANY_BYTES == await until_refused(
                bad, lambda number: bad.send(Open(number, 0, text=long.text))
            )

    asyncio.run(beside_a_healthy_agent(misbehave, device_limits=FEW_BYTES))


def test_a_flood_takes_one_turn_of_the_event_loop_for_each_frame() -> None:
    """So between two steps of anybody else there is one message of a board, however many wait."""

    async def flood() -> float:
        async with running_verifier(scripted_service()) as verifier:
            counts = verifier.service.metrics
            async with raw_board(verifier, "board") as bad:
                for _ in range(500):
                    await bad.send(Status(1))
                    await bad.socket.ping()
                taken: list[float] = []
                received = {"device": "board", "direction": "received"}
                for _ in range(1000):
                    name = "goodspeed_wire_bytes_total"
                    taken.append(counts.registry.get_sample_value(name, received) or 0.0)
                    await asyncio.sleep(0)
        return max(np.diff(taken)) / 9  # a Status has 3 bytes, its frame 6

    assert asyncio.run(flood()) <= 1


def test_who_was_let_go_may_come_back_but_not_at_once() -> None:
    async def misbehave(verifier: Verifier) -> None:
        headers = {"Authorization": f"Bearer {verifier.tokens['bad']}"}
        url = verifier.url + DEVICE_PATH
        num_welcomed = 0

        async def come_and_go(session: aiohttp.ClientSession) -> None:
            nonlocal num_welcomed
            for _ in range(100):
                async with session.ws_connect(url, headers=headers) as socket:
                    bad = RawBoard(socket, VOCAB_SIZE)
                    await bad.send(hello_to(verifier))
                    await bad.next()
                    num_welcomed += 1

        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await come_and_go(session)
        assert 503 == refused.value.status
        assert refused.value.headers is not None
        assert "5" == refused.value.headers["Retry-After"]
        assert num_welcomed <= FEW_MESSAGES.burst_messages / CONNECTION_COST

    asyncio.run(beside_a_healthy_agent(misbehave, device_limits=FEW_MESSAGES))


def test_the_log_tells_of_a_device_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def misbehave(verifier: Verifier) -> None:
        for _ in range(10):
            async with raw_board(verifier, "bad") as bad:
                for channel in range(5):
                    await bad.open(channel)
                    await bad.draft(7, 7, [1], channel=channel)
                    await bad.error(channel)
                await bad.send(Ready(77))
                await bad.ended()

    asyncio.run(beside_a_healthy_agent(misbehave))
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert ["device bad, channel 0: draft base 7 is ahead of 0"] == warnings


# --- opens --------------------------------------------------------------------------------------

NUM_OPENS = 10_000
NUM_STREAMS = 2000  # that come to their end; 10,000 take half a minute


def wired(service: Any, limits: DeviceLimits) -> WiredBoard:
    return WiredBoard(service, DeviceUsage(limits, asyncio.get_running_loop().time()))


async def with_wired_board(misbehave: Callable[[WiredBoard], Awaitable[None]]) -> None:
    """Let a board without a wire and without limits but its streams misbehave."""
    service = scripted_service(max_streams_per_device=8, context_tokens=64)
    boundless = make_device_limits(messages_per_second=10**9, bytes_per_second=10**12)
    rounds = asyncio.create_task(service.run())
    one = wired(service, boundless)
    await one.say(hello_of(service))
    await misbehave(one)
    await one.leave()
    service.stop()
    await rounds
    blocks = service.planner.blocks
    blocks.check_integrity()
    assert blocks.num_blocks == blocks.num_free_blocks
    assert not service.planner.streams
    assert not service.planner.queue


def hello_of(service: Any) -> Any:
    return hello_to(Verifier(service, None, 0, {}))  # type: ignore[arg-type]


def ends(one: WiredBoard) -> list[int]:
    """The channels that have ended since this was asked last."""
    return [
        heard.channel or 0
        for heard in one.heard()
        if isinstance(heard, Error) or (isinstance(heard, Verdict) and heard.finish is not None)
    ]


def test_10000_opens_at_once_are_refused_beyond_the_share_of_a_device() -> None:
    async def misbehave(one: WiredBoard) -> None:
        num_refused = num_opened = 0
        for channel in range(NUM_OPENS):
            assert await one.say(Open(channel, channel, text="x", sampling=GREEDY))
            for heard in one.heard():
                num_refused += isinstance(heard, Error)
                num_opened += isinstance(heard, Opened)
            assert len(one.connection._channels) <= 8
        assert num_refused > 0
        assert num_opened + num_refused >= NUM_OPENS - 8

    asyncio.run(with_wired_board(misbehave))


def test_thousands_of_streams_one_after_the_other_leave_nothing_behind() -> None:
    async def misbehave(one: WiredBoard) -> None:
        ended: list[int] = []
        for channel in range(NUM_STREAMS):
            await one.say(Open(channel, channel, text="x", sampling=GREEDY, max_tokens=1))
            while len(ended) <= channel:
                await asyncio.sleep(0)
                ended += ends(one)
        assert list(range(NUM_STREAMS)) == ended

    asyncio.run(with_wired_board(misbehave))


def test_10000_streams_cancelled_as_soon_as_they_open_leave_nothing_behind() -> None:
    async def misbehave(one: WiredBoard) -> None:
        ended: list[int] = []
        for channel in range(NUM_OPENS):
            await one.say(Open(channel, channel, text="x", sampling=GREEDY))
            await one.say(Cancel(channel))
            ended += ends(one)
        while len(ended) < NUM_OPENS:
            await asyncio.sleep(0)
            ended += ends(one)
        assert list(range(NUM_OPENS)) == sorted(ended)

    asyncio.run(with_wired_board(misbehave))


def test_churn_of_streams_delays_nobody() -> None:
    async def misbehave(verifier: Verifier) -> None:
        async with raw_board(verifier, "bad") as bad:
            for wave in range(0, 300, 50):  # its share is 64 streams
                for channel in range(wave, wave + 49):
                    await bad.send(Open(channel, channel, text="x" * 100, sampling=GREEDY))
                    await bad.send(Cancel(channel))
                await still_works(bad, channel=wave + 49)

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_all_streams_of_a_device_share_its_context() -> None:
    limits = make_device_limits(context_tokens=1000)

    async def misbehave(verifier: Verifier) -> None:
        async with raw_board(verifier, "bad") as bad:
            await bad.open(0, max_tokens=600)
            await bad.send(Open(1, 1, text="x" * 100, max_tokens=600))
            error = await bad.error(1)
            sentence = "the device's streams may come to 1308 tokens, beyond 1000"
            assert Error(ErrorCode.LIMIT, sentence, 1) == error
            await bad.send(Cancel(0))
            await still_works(bad, channel=2)

    asyncio.run(beside_a_healthy_agent(misbehave, device_limits=limits))


# --- lies and silence ---------------------------------------------------------------------------


def lying_rows(token_ids: list[int], true_likeliest: int) -> bytes:
    """Rows that call the drafted tokens certain, or all but impossible."""
    rows = []
    for i, token_id in enumerate(token_ids):
        other = (token_id + 1 + true_likeliest) % VOCAB_SIZE
        lies = ((token_id, 65_535),) if i % 2 or other == token_id else ((other, 9), (token_id, 1))
        rows.append(row(*lies))
    return pack_rows(tuple(rows))


def test_a_board_that_lies_about_its_probabilities_changes_no_other_text() -> None:
    """Its own text may be another one, but it comes to its end."""

    async def misbehave(verifier: Verifier) -> None:
        random = np.random.default_rng(3)
        async with raw_board(verifier, "bad") as bad:
            for channel in range(5):
                await bad.open(channel, SamplingParameters(0.8), max_tokens=40)
                verdict = await bad.window(channel)
                base = 0
                while verdict.finish is None:
                    at = bad.position_after(verdict)
                    count = min(verdict.window, verdict.draft_length)
                    ids = random.integers(0, VOCAB_SIZE, count).tolist()
                    await bad.draft(max(base, 0), at, ids, lying_rows(ids, at), channel)
                    verdict = await bad.next_of(Verdict)
                    if verdict.num_accepted < count:
                        base = bad.position_after(verdict)

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_long_answers_that_nobody_reads_take_no_more_than_their_share_of_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("verifier.server.device_limits.QUEUED_BYTES", 10_000)
    monkeypatch.setattr("verifier.server.device_limits.MAX_PROMPT_LOGPROB_BYTES", 0)
    prompt = "x" * 4000

    async def misbehave(verifier: Verifier) -> None:
        most = 10_000 + 8 * 3 * 4096
        usage = verifier.server._usages
        async with raw_board(verifier, "bad") as bad:
            device = verifier.service.device("bad")
            channel = 0
            while device.outbox is not None:
                try:
                    await bad.send(Open(channel, channel, text=prompt))
                    await bad.send(Cancel(channel))
                except ConnectionError:
                    break
                channel += 1
                await asyncio.sleep(0)
                assert usage["bad"].num_queued_bytes <= most
            await eventually(lambda: device.outbox is None)
        assert 0 == usage["bad"].num_queued_bytes
        assert 0 == sample(verifier, "device_queued_bytes", device="bad")

    limits = make_device_limits(max_streams=8, messages_per_second=10_000_000)
    asyncio.run(beside_a_healthy_agent(misbehave, device_limits=limits))
    assert "device bad is cut off: more than 108304 bytes wait to be read" in caplog.messages


class CountingTokenizer(GatedTokenizer):
    """Counts how many slow prompts are being read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.num_now = self.most = 0

    def encode_text(self, text: str) -> list[int]:
        if text != "slow":
            return super().encode_text(text)
        self.num_now += 1
        self.most = max(self.most, self.num_now)
        token_ids = super().encode_text(text)
        self.num_now -= 1
        return token_ids


def test_one_device_never_has_more_than_one_prompt_read_at_a_time() -> None:
    """Also when it drops those that have begun: threads are shared by all devices."""

    async def misbehave(verifier: Verifier) -> None:
        tokenizer = CountingTokenizer()
        verifier.service.tokenizer = tokenizer
        async with raw_board(verifier, "bad") as bad:
            for channel in range(20):
                await bad.send(Open(channel, channel, text="slow"))
                await bad.send(Ready(channel))  # not allowed while opening: it is dropped
                await bad.error(channel)
            await eventually(lambda: tokenizer.num_now == 1)  # a thread has taken it up
            tokenizer.gate.set()
            await still_works(bad, channel=20)
        assert 1 == tokenizer.most

    asyncio.run(beside_a_healthy_agent(misbehave))
