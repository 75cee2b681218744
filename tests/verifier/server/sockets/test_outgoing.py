"""What waits to be sent: bounded in messages, bytes and time, and counted for its device."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.ends.limits import make_device_limits
from tests.support.ends.waiting import eventually
from verifier.doors.board_socket import Overrun
from verifier.server.device_limits import DeviceUsage
from verifier.server.sockets import outgoing
from verifier.server.sockets.outgoing import Outgoing


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


class Transport:
    """Has so many bytes left from before."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self.is_gone = False

    def get_write_buffer_size(self) -> int:
        return self.num_bytes

    def is_closing(self) -> bool:
        return self.is_gone


def make(
    socket: Any, max_bytes: int = 1000, transport: Transport | None = None
) -> tuple[Outgoing, DeviceUsage, list[int]]:
    """Behind a transport that is busy, unless told otherwise: every message is queued."""
    usage = DeviceUsage(make_device_limits(), 0.0)
    sent: list[int] = []
    busy: Any = transport or Transport(1)
    return Outgoing(socket, busy, usage, max_bytes, sent.append), usage, sent


def test_a_short_message_is_sent_at_once_where_none_is_before_it() -> None:
    async def scenario() -> None:
        socket, transport = Socket(), Transport(0)
        messages, usage, sent = make(socket, transport=transport)
        messages.put(b"one")
        assert ([b"one"], [3], 0) == (socket.sent, sent, usage.num_queued_bytes)
        transport.num_bytes = 1
        messages.put(b"two")
        transport.num_bytes = 0
        messages.put(b"three")  # behind the one that waits
        assert [b"one"] == socket.sent
        messages.end()
        await messages.write()
        assert [b"one", b"two", b"three", None] == socket.sent
        assert ([3, 3, 5], 0) == (sent, usage.num_queued_bytes)

    asyncio.run(scenario())


def test_a_long_message_may_have_to_wait_so_it_is_queued() -> None:
    async def scenario() -> None:
        socket = Socket()
        messages, usage, _ = make(socket, 10_000, Transport(0))
        messages.put(bytes(outgoing.AT_ONCE_BYTES + 1))
        assert [] == socket.sent
        assert outgoing.AT_ONCE_BYTES + 1 == usage.num_queued_bytes
        messages.put(b"behind it")
        assert [] == socket.sent

    asyncio.run(scenario())


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_board_that_is_gone_is_met_by_the_writer(is_gone: bool) -> None:
    class GoneSocket(Socket):
        async def send_bytes(self, packed: bytes) -> None:
            raise ConnectionResetError

    async def scenario() -> None:
        transport = Transport(0)
        transport.is_gone = is_gone
        messages, _, sent = make(GoneSocket(), transport=transport)
        messages.put(b"one")
        with pytest.raises(ConnectionError):
            await messages.write()
        assert [] == sent

    asyncio.run(scenario())


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
        newer = Outgoing(Socket(), Transport(1), usage, 1000, lambda _: None)  # type: ignore[arg-type]
        older.put(b"abc")
        newer.put(b"de")
        assert 5 == usage.num_queued_bytes
        older.forget()
        assert 2 == usage.num_queued_bytes

    asyncio.run(scenario())
