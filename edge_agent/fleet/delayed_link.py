"""A link that takes longer: every message leaves and arrives a while after it was sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_agent.fleet.delay_lane import DelayLane
from edge_agent.link.link import Link
from shared.protocol.codec import encode
from shared.protocol.messages import AgentMessage, VerifierMessage
from shared.protocol.transport import BOARD_FRAME_HEADER_BYTES


class DelayedLink:
    """A StreamLink over a real one, in use until `close`."""

    def __init__(
        self, link: Link, delay_seconds: float, receive: Callable[[VerifierMessage, int], None]
    ) -> None:
        self._link = link
        self._leaving: DelayLane[bytes] = DelayLane(delay_seconds, self._hand_over)
        self._arriving: DelayLane[tuple[VerifierMessage, int]] = DelayLane(
            delay_seconds, lambda arrived: receive(*arrived)
        )
        self.round_trip_seconds = link.round_trip_seconds + 2 * delay_seconds

    @property
    def takes_streams(self) -> bool:
        """Whether new streams may be opened."""
        return self._link.takes_streams

    def send(self, message: AgentMessage) -> int:
        """Send a message on its way; its bytes on the wire.

        Raises:
            LocalProtocolError: the message is too long.
        """
        packed = encode(message)
        self._leaving.put(packed)
        return len(packed) + BOARD_FRAME_HEADER_BYTES

    def send_parts(
        self, messages: Sequence[AgentMessage], is_wanted: Callable[[], bool] = lambda: True
    ) -> int:
        """Send the parts of a long message on their way, as `send` does."""
        return sum(self.send(message) for message in messages if is_wanted())

    def receive(self, message: VerifierMessage, num_bytes: int) -> None:
        """A message came over the real link."""
        self._arriving.put((message, num_bytes))

    def close(self) -> None:
        """Lose what is on its way: the link is gone."""
        self._leaving.close()
        self._arriving.close()

    def _hand_over(self, packed: bytes) -> None:
        self._link.send_packed(packed)
