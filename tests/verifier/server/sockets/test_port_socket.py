"""However many frames a board sends at once, each is taken in a turn of the loop of its own."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import WSMessage, WSMsgType

from verifier.doors.board_socket import Frame
from verifier.engine.round_precedence import RoundPrecedence
from verifier.server.sockets.port_socket import AT_ONCE_SECONDS, PortSocket

CLOSED = WSMessage(WSMsgType.CLOSED, None, None)


class Arriving:
    """A websocket and its transport: frames come after so many seconds each, then it is closed."""

    def __init__(self, *pauses: float) -> None:
        self._pauses = list(pauses)
        self.received_in: list[int] = []
        self.turn = 0

    async def receive(self) -> WSMessage:
        if not self._pauses:
            return CLOSED
        seconds = self._pauses.pop(0)
        if seconds:
            await asyncio.sleep(seconds)
        self.received_in.append(self.turn)
        return WSMessage(WSMsgType.BINARY, b"draft", None)

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


class Board:
    """Notes in which turn of the loop it was heard."""

    is_over = False

    def __init__(self, arriving: Arriving) -> None:
        self._arriving = arriving
        self.taken_in: list[int] = []

    def seconds_to_wait(self) -> float:
        return 0.0

    def take(self, frame: Frame, content: bytes) -> None:
        assert (frame, content) == (Frame.MESSAGE, b"draft")
        self.taken_in.append(self._arriving.turn)


async def read(*pauses: float) -> tuple[list[int], list[int]]:
    """The turns in which frames came, and those in which they were taken."""
    arriving = Arriving(*pauses)
    board, ends = Board(arriving), cast(Any, arriving)
    turns = asyncio.create_task(arriving.count_turns())
    socket = PortSocket(ends, ends, cast(Any, None), 1, lambda num_bytes: None, RoundPrecedence())
    await socket.read(cast(Any, board))
    writer = socket._writer
    assert writer is not None
    for task in (turns, writer):
        task.cancel()
    await asyncio.gather(turns, writer, return_exceptions=True)
    return arriving.received_in, board.taken_in


def test_of_frames_that_came_at_once_each_has_a_turn_of_its_own() -> None:
    _, taken_in = asyncio.run(read(*[0.0] * 50))
    assert len(set(taken_in)) == len(taken_in) == 50


def test_a_frame_that_comes_later_is_taken_as_it_comes() -> None:
    received_in, taken_in = asyncio.run(read(0.0, *[3 * AT_ONCE_SECONDS] * 5))
    assert received_in == taken_in
