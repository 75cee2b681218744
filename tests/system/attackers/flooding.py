"""How a board that harms others sends: streams one after the other, or messages for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from shared.protocol.codec import encode
from shared.protocol.messages import Error, Open, Verdict
from tests.support.ends.loopback import Verifier
from tests.support.ends.raw_board import Closed, RawBoard, raw_board
from tests.support.network.strangers import masked_frame

NUM_STREAMS = 8  # as many as a device may have
TICK_SECONDS = 0.005
BINARY = 0x82
# What a client sees of a verifier that has had enough.
LET_GO = (Closed, OSError, TimeoutError, AssertionError, aiohttp.ClientError)


async def as_many_streams_as_may_be(
    verifier: Verifier, device: str, asked: Callable[[int], Open]
) -> None:
    async with raw_board(verifier, device) as board:
        for channel in range(NUM_STREAMS):
            await board.send(asked(channel))
        while True:
            message = await board.next()
            board.received.clear()
            is_over = isinstance(message, Verdict) and message.finish is not None
            if is_over or (isinstance(message, Error) and message.channel is not None):
                channel += 1
                await board.send(asked(channel))


async def flood(verifier: Verifier, device: str, groups: Any, per_tick: int) -> None:
    async with raw_board(verifier, device) as board:
        await write_for_ever(board, groups, per_tick)


async def write_for_ever(board: RawBoard, groups: Any, per_tick: int, frames: bytes = b"") -> None:
    """So many groups of messages in each tick, as far as they are taken."""
    reading = asyncio.create_task(read_for_ever(board))
    transport, next_at = transport_of(board), time.monotonic()
    try:
        while not transport.is_closing() and not reading.done():
            if transport.get_write_buffer_size() < 1 << 18:
                packed = [encode(said) for _ in range(per_tick) for said in next(groups)]
                transport.write(frames + b"".join(masked_frame(BINARY, one) for one in packed))
            next_at += TICK_SECONDS
            await asyncio.sleep(max(next_at - time.monotonic(), TICK_SECONDS / 5))
    finally:
        reading.cancel()


async def read_for_ever(board: RawBoard) -> None:
    while True:
        try:
            await board.next()
        except TimeoutError:
            continue
        board.received.clear()


def transport_of(board: RawBoard) -> Any:
    writer: Any = board.socket._writer
    return writer.transport
