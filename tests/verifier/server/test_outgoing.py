"""What waits to be sent: bounded in messages, bytes and time, and counted for its device."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.ends.limits import make_device_limits
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


def test_too_many_bytes_are_an_overrun() -> None:
    async def scenario() -> None:
        messages, usage, _ = make(Socket(), max_bytes=10)
        messages.put(bytes(10))
        with pytest.raises(Overrun, match=r"^more than 10 bytes wait to be read$"):
            messages.put(b"x")
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
        messages.end()  # there is always room for the end
        assert 1 == usage.num_queued_bytes

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
