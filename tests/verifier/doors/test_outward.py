"""What a door sends: in order, one close and nothing behind it, however slowly the board reads."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import WSMsgType

from verifier.doors.outward import Outward, frame_of

CLOSE = frame_of(WSMsgType.CLOSE, b"\x03\xe8")


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False


def message(content: bytes) -> bytes:
    return frame_of(WSMsgType.BINARY, content)


def test_a_board_that_reads_again_after_the_close_is_told_nothing_more() -> None:
    async def scene() -> tuple[list[bytes], list[str]]:
        transport: Any = Transport()
        told: list[str] = []
        outward = Outward(100, told.append, lambda num_bytes: None, lambda: told.append("goodbye"))
        outward.put(b"before there is a socket")
        outward.begin(transport)
        outward.pause()
        outward.put(b"slow")
        outward.control(WSMsgType.PONG, b"no room for it")
        outward.end()
        outward.put(b"too late")
        outward.resume()
        outward.pause()
        outward.resume()
        outward.control(WSMsgType.PONG, b"too late, too")
        outward.lose()
        return transport.written, told

    written, told = asyncio.run(scene())
    assert [message(b"before there is a socket"), message(b"slow"), CLOSE] == written
    assert ["goodbye"] == told


def test_who_is_cut_off_is_cut_off_once() -> None:
    async def scene() -> list[str]:
        told: list[str] = []
        outward = Outward(10, told.append, lambda num_bytes: None, lambda: None)
        outward.put(bytes(10))
        for _ in range(3):
            outward.put(b"x")
            outward.put_parts([b"x"])
        return told

    assert ["more than 10 bytes wait to be read"] == asyncio.run(scene())
