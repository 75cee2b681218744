"""A door holds websockets: frames, limits, credit and ends, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import WSCloseCode

from tests.support.ends.door_ends import DoorEnds, running_door
from tests.support.network.strangers import masked_frame
from verifier.doors import outward
from verifier.doors.door_connection import PIECE_BYTES
from verifier.doors.outward import frame_of
from verifier.doors.traffic import CREDIT_BYTES, FromDoor, ToDoor, cost_of

BINARY, TEXT, CLOSE, PING = 0x82, 0x81, 0x88, 0x89
Scene = Callable[[DoorEnds], Awaitable[None]]


def play(scene: Scene) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), running_door() as door:
            await scene(door)

    asyncio.run(run())


def close_frame(code: int) -> bytes:
    return bytes((CLOSE, 2)) + struct.pack("!H", code)


def test_messages_go_both_ways_in_order() -> None:
    async def scene(door: DoorEnds) -> None:
        reader, board = await door.board()
        board.write(masked_frame(BINARY, b"one") + masked_frame(BINARY, b"two"))
        await door.hears(lambda: len(door.said()) == 2)
        assert [(FromDoor.MESSAGE, b"one"), (FromDoor.MESSAGE, b"two")] == door.said()
        for length in (3, 125, 126, 65_535, 65_536):
            packed = bytes(length)
            door.tell(ToDoor.MESSAGE, packed)
            frame = await reader.readexactly(len(frame_of(2, packed)))  # type: ignore[arg-type]
            assert frame.endswith(packed)
            assert BINARY == frame[0]
        board.close()

    play(scene)


def test_what_is_said_before_the_websocket_has_come_waits_for_it() -> None:
    async def scene(door: DoorEnds) -> None:
        reader, board = await door.board()
        door.tell(ToDoor.MESSAGE, b"early")
        assert b"\x82\x05early" == await reader.readexactly(7)
        board.close()

    play(scene)


def test_every_byte_is_counted_with_frames_and_without() -> None:
    async def scene(door: DoorEnds) -> None:
        _, board = await door.board()
        whole = masked_frame(BINARY, b"message")
        for piece in (whole[:3], whole[3:], whole + whole[:1]):
            board.write(piece)
            await asyncio.sleep(0.05)
        sent = 2 * len(whole) + 1
        await door.hears(lambda: sent == sum(n for number, _, n, _ in door.heard if number == 1))
        board.close()

    play(scene)


def test_a_fragmented_message_is_one_message() -> None:
    async def scene(door: DoorEnds) -> None:
        _, board = await door.board()
        board.write(
            masked_frame(0x02, b"he") + masked_frame(PING, b"") + masked_frame(0x80, b"llo")
        )
        await door.hears(lambda: (FromDoor.MESSAGE, b"hello") in door.said())
        assert (FromDoor.CONTROL, b"") == door.said()[0]
        board.close()

    play(scene)


def test_a_ping_is_answered_and_told_of() -> None:
    async def scene(door: DoorEnds) -> None:
        reader, board = await door.board()
        board.write(masked_frame(PING, b"hi"))
        assert b"\x8a\x02hi" == await reader.readexactly(4)
        await door.hears(lambda: bool(door.said()))
        assert [FromDoor.CONTROL] == [kind for kind, _ in door.said()]
        board.close()

    play(scene)


def test_text_is_told_of() -> None:
    async def scene(door: DoorEnds) -> None:
        _, board = await door.board()
        board.write(masked_frame(TEXT, b"\xff no UTF-8"))
        await door.hears(lambda: FromDoor.TEXT in [kind for kind, _ in door.said()])
        board.close()

    play(scene)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (bytes((BINARY, 0x80 | 127)) + (1 << 20).to_bytes(8, "big"), WSCloseCode.MESSAGE_TOO_BIG),
        (masked_frame(0x83, b"an unknown kind"), WSCloseCode.PROTOCOL_ERROR),
    ],
)
def test_what_is_no_frame_is_told_behind_the_messages_before_it(
    frame: bytes, code: WSCloseCode
) -> None:
    async def scene(door: DoorEnds) -> None:
        reader, board = await door.board()
        board.write(masked_frame(BINARY, b"fine") + frame + bytes(100_000))
        assert close_frame(code) == await reader.readexactly(4)
        await door.hears(lambda: FromDoor.ENDED in [kind for kind, _ in door.said()])
        kinds = [kind for kind, _ in door.said()]
        assert [FromDoor.MESSAGE, FromDoor.BROKEN, FromDoor.ENDED] == kinds
        board.close()

    play(scene)


def test_a_flood_is_held_until_the_verifier_has_taken_it_and_nothing_is_lost() -> None:
    async def scene(door: DoorEnds) -> None:
        _, board = await door.board()
        messages = [number.to_bytes(4, "big") for number in range(5 * PIECE_BYTES // 10)]
        board.write(b"".join(masked_frame(BINARY, message) for message in messages))
        most = -(-CREDIT_BYTES // cost_of(messages[0]))
        await door.hears(lambda: len(door.said()) >= most)
        await asyncio.sleep(0.1)
        assert most == len(door.said())
        while len(door.said()) < len(messages):
            num_before = len(door.said())
            door.tell(ToDoor.CREDIT, amount=CREDIT_BYTES)
            await door.hears(lambda before=num_before: len(door.said()) > before)  # type: ignore[misc]
        assert messages == [content for _, content in door.said()]
        board.close()

    play(scene)


def test_what_was_sent_before_the_end_is_told_before_it() -> None:
    async def scene(door: DoorEnds) -> None:
        _, board = await door.board()
        count = 2 * CREDIT_BYTES // cost_of(b"")
        board.write(masked_frame(BINARY, b"") * count)
        board.close()
        await asyncio.sleep(0.1)
        door.tell(ToDoor.CREDIT, amount=4 * CREDIT_BYTES)
        await door.hears(lambda: FromDoor.ENDED in [kind for kind, _ in door.said()])
        assert [FromDoor.MESSAGE] * count + [FromDoor.ENDED] == [kind for kind, _ in door.said()]

    play(scene)


def test_the_boards_close_is_answered() -> None:
    async def scene(door: DoorEnds) -> None:
        reader, board = await door.board()
        board.write(masked_frame(BINARY, b"last") + masked_frame(CLOSE, struct.pack("!H", 1000)))
        assert close_frame(1000) == await reader.read()
        await door.hears(lambda: len(door.said()) == 2)
        assert [(FromDoor.MESSAGE, b"last"), (FromDoor.ENDED, b"")] == door.said()
        board.close()

    play(scene)


def test_the_verifiers_goodbye_comes_behind_what_is_queued_and_waits_for_the_boards() -> None:
    async def scene(door: DoorEnds) -> None:
        reader, board = await door.board(farewell_seconds=60.0)
        door.tell(ToDoor.MESSAGE, b"last")
        door.tell(ToDoor.END)
        door.tell(ToDoor.MESSAGE, b"too late")
        assert b"\x82\x04last" + close_frame(1000) == await reader.readexactly(10)
        board.write(masked_frame(BINARY, b"crossed it") + masked_frame(CLOSE, b"\x03\xe8"))
        assert b"" == await reader.read()
        await door.hears(lambda: bool(door.said()))
        assert [(FromDoor.ENDED, b"")] == door.said()
        board.close()

    play(scene)


@pytest.mark.parametrize("kind", [ToDoor.END, ToDoor.ABORT])
def test_a_board_that_does_not_answer_is_let_go(kind: ToDoor) -> None:
    async def scene(door: DoorEnds) -> None:
        _, board = await door.board()
        door.tell(kind)
        await door.hears(lambda: [(FromDoor.ENDED, b"")] == door.said())
        board.close()

    play(scene)


def test_nothing_of_a_deafened_board_is_told() -> None:
    async def scene(door: DoorEnds) -> None:
        reader, board = await door.board()
        door.tell(ToDoor.DEAFEN)
        door.tell(ToDoor.MESSAGE, b"no more")
        await reader.readexactly(9)
        board.write(masked_frame(BINARY, b"") * 1000)
        await board.drain()
        board.close()
        await door.hears(lambda: bool(door.said()))
        assert [(FromDoor.ENDED, b"")] == door.said()

    play(scene)


def test_a_silent_board_is_pinged_then_lost() -> None:
    async def scene(door: DoorEnds) -> None:
        reader, board = await door.board(heartbeat_seconds=0.2)
        assert b"\x89\x00" == await reader.readexactly(2)
        board.write(masked_frame(0x8A, b""))
        assert b"\x89\x00" == await reader.readexactly(2)
        await door.hears(lambda: (FromDoor.ENDED, b"") in door.said())
        board.close()

    play(scene)


def slow(board: asyncio.StreamWriter) -> None:
    """A board that reads nothing any more."""
    board.transport.pause_reading()  # type: ignore[attr-defined]
    taken = board.get_extra_info("socket")
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def overruns(door: DoorEnds) -> list[bytes]:
    return [content for kind, content in door.said() if kind is FromDoor.OVERRUN]


def test_a_board_that_does_not_read_is_cut_off_by_bytes_and_told_of() -> None:
    async def scene(door: DoorEnds) -> None:
        _, board = await door.board(max_queued_bytes=100_000)
        slow(board)
        for _ in range(100):
            door.tell(ToDoor.MESSAGE, bytes(20_000))
        await door.hears(lambda: (FromDoor.ENDED, b"") in door.said())
        assert [b"more than 100000 bytes wait to be read"] == overruns(door)
        queued = [n for _, kind, n, _ in door.heard if kind == FromDoor.QUEUED]
        assert 0 < max(queued) <= 100_000
        board.close()

    play(scene)


def test_a_board_that_does_not_read_is_cut_off_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outward, "SEND_TIMEOUT_SECONDS", 0.1)

    async def scene(door: DoorEnds) -> None:
        _, board = await door.board()
        slow(board)
        for _ in range(30):
            door.tell(ToDoor.MESSAGE, bytes(20_000))
        await door.hears(lambda: (FromDoor.ENDED, b"") in door.said())
        assert [b"nothing was read for 0.1 s"] == overruns(door)
        board.close()

    play(scene)


def test_parts_of_a_long_message_go_between_others() -> None:
    async def scene(door: DoorEnds) -> None:
        reader, board = await door.board()
        door.tell(ToDoor.PART, b"part one")
        door.tell(ToDoor.LAST_PART, b"part two")
        door.tell(ToDoor.MESSAGE, b"message")
        told = await reader.readexactly(29)
        assert b"\x82\x08part one\x82\x08part two\x82\x07message" == told
        board.close()

    play(scene)


def test_while_the_verifier_is_behind_no_board_is_read() -> None:
    async def scene(door: DoorEnds) -> None:
        door.stand_still(True)
        boards = [await door.board(number) for number in (1, 2, 3, 4)]
        size = 60_000
        sending = []
        for _, board in boards:
            board.write(b"".join(masked_frame(BINARY, bytes(size)) for _ in range(40)))
            sending.append(asyncio.create_task(board.drain()))
        await asyncio.sleep(0.3)
        assert any(not task.done() for task in sending)
        door.stand_still(False)

        def everything() -> bool:
            for number in (1, 2, 3, 4):
                door.tell(ToDoor.CREDIT, amount=CREDIT_BYTES, number=number)
            return all(len(door.said(number)) == 40 for number in (1, 2, 3, 4))

        await door.hears(everything)
        await asyncio.gather(*sending)
        for _, board in boards:
            board.close()

    play(scene)


def test_a_door_ends_with_its_link_and_so_do_its_websockets() -> None:
    async def run() -> bytes:
        async with running_door() as door:
            reader, board = await door.board()
            door.tell(ToDoor.MESSAGE, b"x")
            await reader.readexactly(3)
        rest: bytes = await reader.read()
        board.close()
        return rest

    assert b"" == asyncio.run(run())
