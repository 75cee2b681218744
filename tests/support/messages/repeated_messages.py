"""Boards that say things twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from edge_agent.link.link import Link
from shared.protocol.messages import AgentMessage, Draft, Ready

REPEATED_SHARE = 0.1


@contextmanager
def repeated_messages(chance: random.Random, repeated: Callable[[], None]) -> Iterator[None]:
    """Within the block some drafts come twice, at once or behind the next message.

    `repeated` is called each time.  Neither breaks the protocol, also after a reconnect.
    """
    send = Link.send
    held_back: dict[Link, AgentMessage] = {}

    def send_twice(link: Link, message: AgentMessage) -> int:
        num_bytes = send(link, message)
        if (late := held_back.pop(link, None)) is not None:
            repeated()
            send(link, late)
        if isinstance(message, Draft | Ready) and chance.random() < REPEATED_SHARE:
            if chance.random() < 0.5:
                held_back[link] = message
            else:
                repeated()
                send(link, message)
        return num_bytes

    with patch.object(Link, "send", send_twice):
        yield
