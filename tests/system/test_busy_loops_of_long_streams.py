"""However long a device's streams are, what happens to all of them holds no callback up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.protocol.messages import Cancel, Error, ErrorCode, Goodbye, Opened, Resume, Verdict
from tests.support.ends.long_streams import NUM_STREAMS, LongStreams, long_streams
from tests.support.ends.loop_watch import LIMIT_SECONDS, LoopWatch, least_of_a_few
from tests.support.ends.raw_board import RawBoard, raw_board
from tests.support.ends.waiting import eventually
from verifier.server.operator_pages import ON_LOOPBACK

HALF = 1 << 16  # of the tokens of a stream, that were committed before


async def finished(board: RawBoard) -> None:
    """The last verdicts of all streams are here."""
    for _ in range(NUM_STREAMS):
        while (await board.next_of(Verdict)).finish is None:
            pass


async def end_in_one_round(streams: LongStreams, watch: LoopWatch) -> None:
    async with raw_board(streams.verifier, "board") as board:
        await streams.open(board, num_committed=HALF, num_output=2)
        watch.restart()
        streams.let_go()
        await finished(board)
        await asyncio.sleep(0.1)  # what is kept of them is made small


async def are_cancelled_at_once(streams: LongStreams, watch: LoopWatch) -> None:
    async with raw_board(streams.verifier, "board") as board:
        await streams.open(board, num_committed=HALF, num_output=9)
        watch.restart()
        for channel in range(NUM_STREAMS):
            await board.send(Cancel(channel))
        streams.let_go()
        await finished(board)


async def are_left_for_good(streams: LongStreams, watch: LoopWatch) -> None:
    async with raw_board(streams.verifier, "board") as board:
        await streams.open(board, num_committed=HALF, num_output=9)
        watch.restart()
        await board.send(Goodbye())
        streams.let_go()
        await eventually(lambda: not streams.verifier.service.planner.streams)


async def come_back_to_open_ones(streams: LongStreams, watch: LoopWatch) -> None:
    """By their names alone, all with one write; then they are left, and end without their board."""
    device = streams.verifier.service.device("board")
    async with raw_board(streams.verifier, "board") as board:
        await streams.open(board, num_committed=HALF, num_output=9)
        watch.restart()
    await eventually(lambda: device.outbox is None)
    async with raw_board(streams.verifier, "board") as board:
        await resume_all(board)
        for _ in range(NUM_STREAMS):
            await board.next_of(Opened)
    await eventually(lambda: device.outbox is None)
    assert NUM_STREAMS == device.kept.num_open
    streams.verifier.service.discard_kept(device)
    streams.let_go()
    await eventually(lambda: not streams.verifier.service.planner.streams)


async def come_back_to_ended_ones(streams: LongStreams, watch: LoopWatch) -> None:
    device = streams.verifier.service.device("board")
    async with raw_board(streams.verifier, "board") as board:
        await streams.open(board, num_committed=HALF, num_output=2)
        streams.let_go()
        await finished(board)
    await eventually(lambda: device.outbox is None)
    async with raw_board(streams.verifier, "board") as board:
        watch.restart()
        await resume_all(board)
        await finished(board)
        assert NUM_STREAMS == sum(isinstance(message, Opened) for message in board.received)


async def resume_all(board: RawBoard) -> None:
    for channel in range(NUM_STREAMS):
        await board.send(Resume(channel, channel))


async def lose_their_device(streams: LongStreams, watch: LoopWatch) -> None:
    async with raw_board(streams.verifier, "board") as board:
        await streams.open(board, num_committed=HALF, num_output=9)
        watch.restart()
        streams.verifier.server.replace_access({}, ON_LOOPBACK)
        assert ErrorCode.REVOKED == (await board.next_of(Error)).code
        streams.let_go()
        await eventually(lambda: not streams.verifier.service.planner.streams)


@pytest.mark.parametrize(
    "happen",
    [
        end_in_one_round,
        are_cancelled_at_once,
        are_left_for_good,
        come_back_to_open_ones,
        come_back_to_ended_ones,
        lose_their_device,
    ],
)
def test_long_streams_hold_no_callback_up(
    happen: Callable[[LongStreams, LoopWatch], Awaitable[None]],
) -> None:
    async def scenario(watch: LoopWatch) -> None:
        async with long_streams() as streams:
            await happen(streams, watch)

    seconds, what = least_of_a_few(scenario)
    assert seconds < LIMIT_SECONDS, what
