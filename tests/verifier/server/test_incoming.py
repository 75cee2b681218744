"""What a board sends: frames become messages, cost their device, or end the connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import WebSocketError, WSMessage, WSMsgType

from shared.errors import RemoteProtocolError
from shared.protocol.codec import encode
from shared.protocol.messages import AgentMessage, Open, Ready, Resume
from tests.support.ends.limits import make_device_limits
from verifier.engine.round_precedence import RoundPrecedence
from verifier.server.device_limits import OPEN_COST, DeviceUsage
from verifier.server.incoming import Incoming
from verifier.server.loop_shares import LoopShares

READY = WSMessage(WSMsgType.BINARY, encode(Ready(3)), None)
PING = WSMessage(WSMsgType.PING, b"hello", None)
PONG = WSMessage(WSMsgType.PONG, b"", None)
CLOSED = WSMessage(WSMsgType.CLOSED, None, None)


class Socket:
    """Brings frames, and keeps what it is answered."""

    def __init__(self, *frames: WSMessage) -> None:
        self.frames = list(frames)
        self.pongs: list[bytes] = []

    async def receive(self) -> WSMessage:
        return self.frames.pop(0)

    async def pong(self, data: bytes) -> None:
        self.pongs.append(data)


class Usage(DeviceUsage):
    """Keeps what was paid."""

    def __init__(self) -> None:
        super().__init__(make_device_limits(), 0.0)
        self.costs: list[int] = []

    def take_messages(self, cost: int, now: float) -> None:
        self.costs.append(cost)


def read(
    socket: Any, usage: DeviceUsage, count: int
) -> tuple[list[AgentMessage | None], list[int]]:
    received: list[int] = []

    async def run() -> list[AgentMessage | None]:
        incoming = Incoming(
            "board", socket, usage, LoopShares(), received.append, RoundPrecedence()
        )
        return [await incoming.next() for _ in range(count)]

    return asyncio.run(run()), received


def test_frames_become_messages_until_the_connection_ends() -> None:
    assert ([Ready(3), Ready(3), None], [3, 3]) == read(Socket(READY, READY, CLOSED), Usage(), 3)


def test_pings_are_answered_and_cost_as_much_as_messages() -> None:
    socket, usage = Socket(PING, PONG, READY), Usage()
    assert ([Ready(3)], [3]) == read(socket, usage, 1)
    assert ([b"hello"], [1, 1, 1]) == (socket.pongs, usage.costs)


@pytest.mark.parametrize("message", [Open(0, 0, text="x"), Resume(0, 0)])
def test_what_opens_a_stream_costs_more(message: AgentMessage) -> None:
    usage = Usage()
    read(Socket(WSMessage(WSMsgType.BINARY, encode(message), None)), usage, 1)
    assert [OPEN_COST] == usage.costs


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (WSMessage(WSMsgType.TEXT, "hello", None), "text frames are not allowed"),
        (WSMessage(WSMsgType.BINARY, b"\xc1", None), "not valid MessagePack"),
        (WSMessage(WSMsgType.ERROR, WebSocketError(1002, "no"), None), "frame is not allowed: no"),
    ],
)
def test_anything_else_is_refused(frame: WSMessage, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError, match=sentence):
        read(Socket(frame), Usage(), 1)


def test_a_connection_that_broke_has_just_ended() -> None:
    broke = WSMessage(WSMsgType.ERROR, ConnectionResetError(), None)
    assert ([None], []) == read(Socket(broke), Usage(), 1)


def test_once_it_is_stopped_nothing_is_read_or_counted() -> None:
    usage = Usage()

    async def run() -> AgentMessage | None:
        socket: Any = Socket(WSMessage(WSMsgType.BINARY, b"\xc1", None))
        precedence = RoundPrecedence()
        incoming = Incoming("board", socket, usage, LoopShares(), lambda _: None, precedence)
        incoming.stop()
        incoming.count_bytes(1 << 60)
        return await incoming.next()

    assert asyncio.run(run()) is None
    assert [] == usage.costs
