"""One connection of one device; the system tests of bad connections and drafts say the rest."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest

from shared.protocol.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Error,
    ErrorCode,
    GoingAway,
    Goodbye,
    Open,
    Opened,
    Ready,
    Resume,
    Status,
    Verdict,
    VerifierMessage,
    Welcome,
)
from shared.protocol.token_ids import pack_id_set
from shared.speculation.sampling import GREEDY
from shared.speculation.scripted_model import SCRIPTED_END_ID
from tests.support.ends.loopback import Verifier, running_verifier
from tests.support.ends.raw_board import hello_to, raw_board
from tests.support.ends.scripted import VOCAB_SIZE, scripted_service
from tests.support.ends.waiting import eventually
from verifier.engine.service import VerifierService


def rejected(verifier: Verifier, reason: str) -> float:
    registry = verifier.service.metrics.registry
    labels = {"reason": reason}
    return registry.get_sample_value("goodspeed_rejected_messages_total", labels) or 0.0


def test_a_board_is_welcomed_with_what_it_needs_to_know() -> None:
    async def welcome() -> Welcome:
        async with (
            running_verifier(scripted_service(context_tokens=512)) as verifier,
            raw_board(verifier, "board") as board,
        ):
            (message,) = board.received
            assert isinstance(message, Welcome)
            return message

    expected = Welcome(
        protocol_version=PROTOCOL_VERSION,
        target_model="scripted",
        vocab_size=VOCAB_SIZE,
        epoch=1,
        context_tokens=512,
        max_streams=64,
        special_ids=pack_id_set({SCRIPTED_END_ID}),
    )
    assert expected == asyncio.run(welcome())


def test_a_newer_connection_takes_over_at_once() -> None:
    async def replace() -> None:
        service = scripted_service()
        async with (
            running_verifier(service) as verifier,
            raw_board(verifier, "board") as older,
        ):
            await older.open(max_tokens=4000)
            async with raw_board(verifier, "board") as newer:
                (welcome,) = newer.received
                assert isinstance(welcome, Welcome)
                assert 2 == welcome.epoch
                await eventually(lambda: not service.planner.streams)
                sentence = "a newer connection of this device took over"
                assert Error(ErrorCode.REPLACED, sentence) == await older.error()
                await newer.open(1, max_tokens=3)
                while (await newer.next_of(Verdict)).finish is None:
                    pass
                await older.ended()
                assert service.devices["board"].outbox is not None
            await eventually(lambda: service.devices["board"].outbox is None)

    asyncio.run(replace())


def test_an_older_connection_that_does_not_read_is_no_hindrance() -> None:
    async def replace() -> None:
        async with (
            running_verifier(scripted_service()) as verifier,
            raw_board(verifier, "board", greets=False) as older,
        ):
            await older.send(hello_to(verifier))
            device = verifier.service.device("board")
            await eventually(lambda: device.epoch == 1)
            async with asyncio.timeout(1), raw_board(verifier, "board") as newer:
                await newer.open(0, max_tokens=3)

    asyncio.run(replace())


def test_what_crosses_the_end_of_a_connection_is_no_fault() -> None:
    async def cross() -> float:
        async with (
            running_verifier(scripted_service()) as verifier,
            raw_board(verifier, "board") as older,
        ):
            await older.open(max_tokens=4000)
            async with raw_board(verifier, "board"):
                for _ in range(20):
                    await older.send(Ready(0))
                await older.ended()
            return rejected(verifier, ErrorCode.PROTOCOL)

    assert 0 == asyncio.run(cross())


def test_goodbye_ends_the_streams_of_a_board() -> None:
    async def leave() -> None:
        service = scripted_service()
        async with running_verifier(service) as verifier, raw_board(verifier, "board") as board:
            await board.open(max_tokens=4000)
            await board.send(Goodbye())
            await board.ended()
            await eventually(lambda: not service.planner.streams)
            assert 0 == rejected(verifier, ErrorCode.PROTOCOL)

    asyncio.run(leave())


def num_kept(service: VerifierService) -> tuple[int, int]:
    kept = service.devices["board"].kept
    return kept.num_open, kept.num_ended


def test_a_lost_connection_leaves_its_streams_for_the_next_one() -> None:
    async def come_back() -> list[VerifierMessage]:
        service = scripted_service(delay_seconds=lambda _: 0.001)
        async with running_verifier(service) as verifier:
            async with raw_board(verifier, "board") as board:
                await board.open(max_tokens=50)
                for _ in range(10):
                    await board.next_of(Verdict)
            await eventually(lambda: not service.planner.streams)
            assert (1, 0) == num_kept(service)
            service.planner.blocks.check_integrity()
            async with raw_board(verifier, "board") as board:
                await board.send(Resume(3, stream_id=0, position=4))
                while (await board.next_of(Verdict)).finish is None:
                    pass
                return board.received[1:]

    opened, *verdicts = asyncio.run(come_back())
    assert isinstance(opened, Opened)
    assert {3} == {message.channel for message in verdicts}  # type: ignore[union-attr]
    positions = [v.position for v in verdicts if isinstance(v, Verdict)]
    assert 4 == positions[0]
    assert list(range(positions[1], 50)) == positions[1:]
    assert positions[1] >= 10


def test_a_half_open_connection_is_taken_over_with_its_streams() -> None:
    async def take_over() -> tuple[int, int]:
        service = scripted_service(delay_seconds=lambda _: 0.001)
        async with running_verifier(service) as verifier, raw_board(verifier, "board") as older:
            await older.open(max_tokens=4000)
            await older.next_of(Verdict)
            (stream,) = service.planner.streams.values()
            async with raw_board(verifier, "board") as newer:
                await newer.open(0)
                verdict = await newer.next_of(Verdict)
                assert [stream] == list(service.planner.streams.values())
                return verdict.position, newer.position_after(verdict)

    before, after = asyncio.run(take_over())
    assert before == 0 < after


def test_a_stream_that_nobody_has_is_refused_alone() -> None:
    async def refused() -> tuple[Error, Verdict]:
        service = scripted_service()
        async with running_verifier(service) as verifier, raw_board(verifier, "board") as board:
            await board.send(Resume(0, stream_id=77))
            error = await board.error(0)
            await board.open(1, max_tokens=1)
            return error, await board.next_of(Verdict)

    error, verdict = asyncio.run(refused())
    sentence = "this verifier does not have the stream any more"
    assert Error(ErrorCode.UNKNOWN_STREAM, sentence, 0) == error
    assert verdict.finish is not None


def test_a_board_that_breaks_the_protocol_finds_nothing_again() -> None:
    async def misbehave() -> tuple[int, int]:
        service = scripted_service(delay_seconds=lambda _: 0.001)
        async with running_verifier(service) as verifier:
            async with raw_board(verifier, "board") as board:
                await board.open(max_tokens=4000)
                await board.send_packed(b"\xc1")
                await board.ended()
            await eventually(lambda: service.devices["board"].outbox is None)
            return num_kept(service)

    assert (0, 0) == asyncio.run(misbehave())


def test_a_goodbye_leaves_nothing_of_earlier_connections_either() -> None:
    async def leave() -> tuple[int, int]:
        service = scripted_service(delay_seconds=lambda _: 0.001)
        async with running_verifier(service) as verifier:
            async with raw_board(verifier, "board") as board:
                await board.open(max_tokens=4000)
            await eventually(lambda: num_kept(service) == (1, 0))
            async with raw_board(verifier, "board") as board:
                await board.open(5, max_tokens=1)
                await board.next_of(Verdict)
                await eventually(lambda: num_kept(service) == (1, 1))
                await board.send(Goodbye())
                await board.ended()
            await eventually(lambda: service.devices["board"].outbox is None)
            blocks = service.planner.blocks
            await eventually(lambda: blocks.num_blocks == blocks.num_free_blocks)
            return num_kept(service)

    assert (0, 0) == asyncio.run(leave())


def test_a_stream_whose_prompt_is_being_read_ends_with_its_connection() -> None:
    async def lose() -> None:
        service = scripted_service()
        async with running_verifier(service) as verifier:
            async with raw_board(verifier, "board") as board:
                await board.send(Open(0, 0, text="x" * 3000))
            await eventually(lambda: service.devices["board"].outbox is None)
            await eventually(lambda: not service.planner.streams and not service.planner.queue)

    asyncio.run(lose())


def test_a_board_says_how_fast_it_drafts() -> None:
    async def speeds() -> tuple[float | None, float | None]:
        service = scripted_service()
        async with (
            running_verifier(service) as verifier,
            raw_board(verifier, "board", greets=False) as board,
        ):
            hello = hello_to(verifier)
            await board.send(msgspec.structs.replace(hello, draft_microseconds=5000))
            await board.next_of(Welcome)
            speed = service.devices["board"].estimates.speed
            at_first = speed.draft_token_seconds
            await board.send(Status(draft_microseconds=15_000))
            await eventually(lambda: speed.draft_token_seconds != at_first)
            return at_first, speed.draft_token_seconds

    at_first, later = asyncio.run(speeds())
    assert 0.005 == at_first
    assert later is not None
    assert 0.005 < later <= 0.015


def test_a_stream_that_crosses_the_goodbye_of_the_verifier_is_left_to_the_next_connection() -> None:
    async def cross() -> list[VerifierMessage]:
        service = scripted_service(delay_seconds=lambda _: 0.05)
        async with running_verifier(service) as verifier, raw_board(verifier, "board") as board:
            await board.open(max_tokens=4000)
            stopping = asyncio.create_task(verifier.server.stop())
            await board.next_of(GoingAway)
            await board.send(Open(1, 1, text="late"))
            await board.send(Cancel(0))
            await board.ended()
            await stopping
            return board.received

    received = asyncio.run(cross())
    assert [0] == [message.channel for message in received if isinstance(message, Opened)]
    assert [] == [message for message in received if isinstance(message, Error)]


def test_coming_and_going_is_logged_without_what_was_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "verifier")

    async def come_and_go() -> None:
        async with running_verifier(scripted_service()) as verifier:
            async with raw_board(verifier, "board") as board:
                await board.open(sampling=GREEDY, text="my secret", max_tokens=5)
            await eventually(lambda: verifier.service.devices["board"].outbox is None)

    asyncio.run(come_and_go())
    assert [
        "device board connected: agent 0, drafting with raw for 1 streams at once",
        "device board disconnected",
    ] == [record.getMessage() for record in caplog.records]


FORGED = "model\n<0>device kitchen: stolen\x1b[2J\x1b]0;title\x07\u202e"


def test_nothing_that_a_board_says_forges_a_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Names in the greeting, sentences of refusals, and what a refused message quotes."""

    async def greet(verifier: Verifier, **names: object) -> None:
        async with raw_board(verifier, "board", greets=False) as board:
            await board.send(msgspec.structs.replace(hello_to(verifier), **names))
            await board.send_packed(msgspec.msgpack.encode([FORGED]))
            await board.ended()

    async def scenario() -> None:
        async with running_verifier(scripted_service()) as verifier:
            await greet(verifier, draft_model=FORGED, agent_version=FORGED)
            await greet(verifier, draft_model=FORGED, fingerprint=b"another")

    caplog.set_level(logging.DEBUG, logger="verifier")
    asyncio.run(scenario())
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("verifier")]
    assert 2 <= sum("stolen" in message for message in ours)
    assert [] == [message for message in ours if not message.isprintable()]
