"""What a board sends: frames become messages, cost their device, or end the connection."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import RemoteProtocolError
from shared.protocol.codec import encode
from shared.protocol.messages import AgentMessage, Open, Ready, Resume
from tests.support.ends.limits import make_device_limits
from verifier.doors.board_socket import Frame
from verifier.server.device_limits import OPEN_COST, DeviceUsage
from verifier.server.incoming import Incoming
from verifier.server.loop_shares import LoopShares

FRAME_SECONDS = 0.25


class Usage(DeviceUsage):
    """Keeps what was paid."""

    def __init__(self) -> None:
        super().__init__(make_device_limits(), 0.0)
        self.costs: list[int] = []

    def take_messages(self, cost: int, now: float) -> None:
        self.costs.append(cost)


def take(
    frame: Frame, content: bytes, usage: DeviceUsage, shares: LoopShares | None = None
) -> tuple[AgentMessage | None, list[int]]:
    """What becomes of one frame, and which bytes were counted as received."""
    received: list[int] = []

    async def run() -> AgentMessage | None:
        incoming = Incoming("board", usage, shares or LoopShares(), received.append, FRAME_SECONDS)
        message = incoming.take(frame, content)
        incoming.done()
        return message

    return asyncio.run(run()), received


def test_a_binary_frame_is_a_message() -> None:
    usage = Usage()
    assert (Ready(3), [3]) == take(Frame.MESSAGE, encode(Ready(3)), usage)
    assert [1] == usage.costs


def test_pings_cost_as_much_as_messages() -> None:
    usage = Usage()
    assert (None, []) == take(Frame.CONTROL, b"", usage)
    assert [1] == usage.costs


@pytest.mark.parametrize("message", [Open(0, 0, text="x"), Resume(0, 0)])
def test_what_opens_a_stream_costs_more(message: AgentMessage) -> None:
    usage = Usage()
    take(Frame.MESSAGE, encode(message), usage)
    assert [OPEN_COST] == usage.costs


@pytest.mark.parametrize(
    ("frame", "content", "sentence"),
    [
        (Frame.TEXT, b"", "text frames are not allowed"),
        (Frame.MESSAGE, b"\xc1", "not valid MessagePack"),
        (Frame.BROKEN, b"no", "frame is not allowed: no"),
    ],
)
def test_anything_else_is_refused(frame: Frame, content: bytes, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError, match=sentence):
        take(frame, content, Usage())


def test_a_frame_is_charged_to_its_device_with_all_that_it_costs() -> None:
    shares = LoopShares()
    take(Frame.MESSAGE, encode(Ready(3)), Usage(), shares)
    assert FRAME_SECONDS < shares.spent_seconds["board"] < FRAME_SECONDS + 0.1


def test_once_it_is_stopped_nothing_is_counted_and_nothing_waits() -> None:
    shares = LoopShares()
    shares.spend("board", 100.0, 0.0)

    async def run() -> None:
        incoming = Incoming("board", Usage(), shares, lambda _: None, FRAME_SECONDS)
        incoming.stop()
        incoming.count_bytes(1 << 60)
        assert 0.0 == incoming.seconds_to_wait()

    asyncio.run(run())
