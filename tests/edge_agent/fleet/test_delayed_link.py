"""A link that takes longer, in both directions."""

from __future__ import annotations

import asyncio

from edge_agent.fleet.delayed_link import DelayedLink
from edge_agent.link.link import Link
from shared.protocol.codec import encode
from shared.protocol.messages import PROTOCOL_VERSION, Cancel, Hello, Verdict, VerifierMessage
from tests.support.ends.scripted import board
from tests.support.ends.waiting import eventually

VERDICT = Verdict(0, 0, 0, b"")


class KeptLink(Link):
    """Keeps what is to be sent; 0.5 s to its verifier and back."""

    def __init__(self) -> None:
        super().__init__(Hello(PROTOCOL_VERSION), board(), lambda *_: None, lambda *_: None)
        self.round_trip_seconds = 0.5
        self.packed: list[bytes] = []

    def send_packed(self, packed: bytes) -> int:
        self.packed.append(packed)
        return len(packed)


def test_without_a_delay_it_is_the_link() -> None:
    arrived: list[tuple[VerifierMessage, int]] = []
    link = KeptLink()
    delayed = DelayedLink(link, 0.0, lambda *message: arrived.append(message))
    num_bytes = delayed.send(Cancel(3))
    delayed.receive(VERDICT, 11)
    assert ([encode(Cancel(3))], [(VERDICT, 11)]) == (link.packed, arrived)
    assert len(encode(Cancel(3))) + 6 == num_bytes  # and the frame's header
    assert (0.5, link.takes_streams) == (delayed.round_trip_seconds, delayed.takes_streams)


def test_messages_take_longer_in_both_directions() -> None:
    async def run() -> None:
        arrived: list[tuple[VerifierMessage, int]] = []
        link = KeptLink()
        delayed = DelayedLink(link, 0.002, lambda *message: arrived.append(message))
        assert 0.504 == delayed.round_trip_seconds
        delayed.send(Cancel(3))
        delayed.receive(VERDICT, 11)
        assert ([], []) == (link.packed, arrived)
        await eventually(lambda: bool(link.packed and arrived))

    asyncio.run(run())


def test_what_is_on_its_way_when_the_link_is_lost_is_lost() -> None:
    async def run() -> None:
        arrived: list[object] = []
        lost, kept = KeptLink(), KeptLink()
        delayed = DelayedLink(lost, 0.001, lambda *message: arrived.append(message))
        delayed.send(Cancel(1))
        delayed.receive(VERDICT, 11)
        delayed.close()
        DelayedLink(kept, 0.002, lambda *_: None).send(Cancel(2))
        await eventually(lambda: bool(kept.packed))
        assert ([], []) == (lost.packed, arrived)

    asyncio.run(run())
