"""The verifier's side of a websocket behind a door: taken at once, held back, given credit for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.errors import RemoteProtocolError
from tests.support.ends.door_ends import TERMS
from tests.support.ends.waiting import eventually
from verifier.doors.board_socket import Frame, Overrun
from verifier.doors.door_socket import Accounts, DoorSocket
from verifier.doors.traffic import CREDIT_BYTES, Entry, FromDoor, ToDoor, cost_of


class Board:
    """Listens to a socket; says what it was told, and waits or fails when it should."""

    def __init__(self) -> None:
        self.taken: list[tuple[Frame, bytes]] = []
        self.num_bytes = 0
        self.waits: list[float] = []
        self.is_over = False
        self.told: list[Entry] = []
        self.num_sent = self.num_queued = 0
        self.socket = DoorSocket(TERMS, self.told.append, Accounts(self._send, self._queue))

    def _send(self, num_bytes: int) -> None:
        self.num_sent += num_bytes

    def _queue(self, num_bytes: int) -> None:
        self.num_queued += num_bytes

    def receive_bytes(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes

    def seconds_to_wait(self) -> float:
        return self.waits.pop(0) if self.waits else 0.0

    def take(self, frame: Frame, content: bytes) -> None:
        if content == b"wrong":
            raise RemoteProtocolError("wrong")
        self.is_over = content == b"goodbye"
        self.taken.append((frame, content))

    def hear(self, kind: FromDoor, content: bytes = b"", amount: int = 0) -> None:
        self.socket.hear(kind, amount, content)


def play(scene: Callable[[Board, asyncio.Task[None]], Awaitable[None]]) -> None:
    async def run() -> None:
        board = Board()
        reading = asyncio.create_task(board.socket.read(board))
        await asyncio.sleep(0)
        await scene(board, reading)
        board.socket.lose()
        await asyncio.wait([reading])

    asyncio.run(run())


def test_a_frame_is_taken_before_the_door_says_anything_else() -> None:
    async def scene(board: Board, reading: asyncio.Task[None]) -> None:
        board.hear(FromDoor.MESSAGE, b"one", 9)
        board.hear(FromDoor.CONTROL)
        board.hear(FromDoor.BYTES, amount=3)
        assert [(Frame.MESSAGE, b"one"), (Frame.CONTROL, b"")] == board.taken
        assert 12 == board.num_bytes

    play(scene)


def test_a_frame_that_has_to_wait_holds_back_those_behind_it_and_the_end() -> None:
    async def scene(board: Board, reading: asyncio.Task[None]) -> None:
        board.waits = [0.0, 0.02, 0.02]
        for content in (b"1", b"2", b"3"):
            board.hear(FromDoor.MESSAGE, content)
        board.hear(FromDoor.ENDED)
        assert [b"1"] == [content for _, content in board.taken]
        await reading
        assert [b"1", b"2", b"3"] == [content for _, content in board.taken]

    play(scene)


def test_what_came_before_it_is_read_is_kept() -> None:
    async def run() -> list[bytes]:
        board = Board()
        board.hear(FromDoor.MESSAGE, b"early")
        board.hear(FromDoor.ENDED)
        await board.socket.read(board)
        return [content for _, content in board.taken]

    assert [b"early"] == asyncio.run(run())


def test_the_door_gets_credit_back_for_what_was_taken() -> None:
    async def scene(board: Board, reading: asyncio.Task[None]) -> None:
        for _ in range(CREDIT_BYTES // cost_of(b"message")):
            board.hear(FromDoor.MESSAGE, b"message")
        (credit,) = [amount for _, kind, amount, _ in board.told if kind == ToDoor.CREDIT]
        assert CREDIT_BYTES / 2 <= credit < CREDIT_BYTES / 2 + cost_of(b"message")

    play(scene)


@pytest.mark.parametrize(
    ("kind", "content", "error"),
    [(FromDoor.MESSAGE, b"wrong", RemoteProtocolError), (FromDoor.OVERRUN, b"slow", Overrun)],
)
def test_what_goes_wrong_ends_the_reading(
    kind: FromDoor, content: bytes, error: type[Exception]
) -> None:
    async def scene(board: Board, reading: asyncio.Task[None]) -> None:
        board.hear(kind, content)
        board.hear(FromDoor.MESSAGE, b"behind it")
        with pytest.raises(error, match=content.decode()):
            await reading
        assert [] == board.taken

    play(scene)


def test_nothing_is_taken_after_what_ended_it() -> None:
    async def scene(board: Board, reading: asyncio.Task[None]) -> None:
        board.hear(FromDoor.MESSAGE, b"goodbye")
        board.hear(FromDoor.MESSAGE, b"behind it")
        await reading
        assert [b"goodbye"] == [content for _, content in board.taken]

    play(scene)


def test_a_farewell_waits_for_the_door_and_not_for_ever() -> None:
    async def scene(board: Board, reading: asyncio.Task[None]) -> None:
        board.socket.put(b"last")
        board.socket.put_parts([b"part", b"part"])
        board.socket.end()
        await reading
        farewell = asyncio.create_task(board.socket.farewell(0.05))
        await farewell
        kinds = [kind for _, kind, _, _ in board.told]
        parts = [ToDoor.PART, ToDoor.LAST_PART]
        assert [ToDoor.MESSAGE, *parts, ToDoor.END, ToDoor.ABORT] == kinds
        assert 12 == board.num_sent

    play(scene)


def test_what_waits_for_a_board_is_counted_until_it_is_gone() -> None:
    async def scene(board: Board, reading: asyncio.Task[None]) -> None:
        board.hear(FromDoor.QUEUED, amount=100)
        board.hear(FromDoor.QUEUED, amount=70)
        assert 70 == board.num_queued
        board.hear(FromDoor.ENDED)
        await reading
        await board.socket.farewell(60.0)
        await eventually(lambda: board.num_queued == 0)

    play(scene)
