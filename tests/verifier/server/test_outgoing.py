"""What waits to be sent: bounded in messages, bytes and time, and counted for its device."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.ends.limits import make_device_limits
from tests.support.ends.waiting import eventually
from verifier.server import outgoing
from verifier.server.device_limits import DeviceUsage
from verifier.server.outgoing import Outgoing, Overrun


class Socket:
    """Takes messages, unless it is stuck."""

    def __init__(self, *, is_stuck: bool = False) -> None:
        self.is_stuck = is_stuck
        self.sent: list[bytes | None] = []

    async def send_bytes(self, packed: bytes) -> None:
        if self.is_stuck:
            await asyncio.Event().wait()
        self.sent.append(packed)

    async def close(self) -> None:
        self.sent.append(None)


def make(socket: Any, max_bytes: int = 1000) -> tuple[Outgoing, DeviceUsage, list[int]]:
    usage = DeviceUsage(make_device_limits(), 0.0)
    sent: list[int] = []
    return Outgoing(socket, usage, max_bytes, sent.append), usage, sent


def test_messages_are_sent_in_order_then_the_socket_is_closed() -> None:
    async def scenario() -> None:
        socket = Socket()
        messages, usage, sent = make(socket)
        messages.put(b"one")
        messages.put(b"three")
        assert 8 == usage.num_queued_bytes
        messages.end()
        await messages.write()
        assert [b"one", b"three", None] == socket.sent
        assert ([3, 5], 0) == (sent, usage.num_queued_bytes)

    asyncio.run(scenario())


def test_parts_of_a_long_message_are_sent_behind_others_and_are_no_part_of_a_farewell() -> None:
    async def scenario() -> None:
        socket = Socket()
        messages, usage, _ = make(socket)
        messages.put_parts([b"part one", b"part two"])
        messages.put(b"urgent")
        assert 22 == usage.num_queued_bytes
        writer = asyncio.create_task(messages.write())
        await eventually(lambda: len(socket.sent) == 3)
        messages.put_parts([b"part three"])
        messages.put(b"farewell")
        messages.end()
        await writer
        assert [b"urgent", b"part one", b"part two", b"farewell", None] == socket.sent
        messages.forget()
        assert 0 == usage.num_queued_bytes

    asyncio.run(scenario())


def test_too_many_bytes_are_an_overrun() -> None:
    async def scenario() -> None:
        messages, usage, _ = make(Socket(), max_bytes=10)
        messages.put(bytes(10))
        with pytest.raises(Overrun, match=r"^more than 10 bytes wait to be read$"):
            messages.put(b"x")
        with pytest.raises(Overrun, match=r"^more than 10 bytes wait to be read$"):
            messages.put_parts([b"x"])
        assert 10 == usage.num_queued_bytes

    asyncio.run(scenario())


def test_too_many_messages_are_an_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_QUEUED_MESSAGES", 2)

    async def scenario() -> None:
        messages, usage, _ = make(Socket())
        messages.put(b"a")
        messages.put(b"b")
        with pytest.raises(Overrun, match=r"^2 messages wait to be read$"):
            messages.put(b"c")
        messages.end()  # needs no room
        assert 2 == usage.num_queued_bytes

    asyncio.run(scenario())


def test_a_board_that_takes_nothing_is_an_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "SEND_TIMEOUT_SECONDS", 0.01)

    async def scenario() -> None:
        messages, usage, _ = make(Socket(is_stuck=True))
        messages.put(b"one")
        with pytest.raises(Overrun, match=r"^nothing was read for 0.01 s$"):
            await messages.write()
        messages.forget()
        assert 0 == usage.num_queued_bytes

    asyncio.run(scenario())


def test_two_connections_of_a_device_are_counted_together() -> None:
    async def scenario() -> None:
        older, usage, _ = make(Socket())
        newer = Outgoing(Socket(), usage, 1000, lambda _: None)  # type: ignore[arg-type]
        older.put(b"abc")
        newer.put(b"de")
        assert 5 == usage.num_queued_bytes
        older.forget()
        assert 2 == usage.num_queued_bytes

    asyncio.run(scenario())
