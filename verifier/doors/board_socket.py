"""A websocket to a board, by whichever process holds it, and what it wants of who listens.

This module must never know what a message means.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

from shared.errors import GoodspeedError


class Overrun(GoodspeedError):
    """The board does not read what is sent."""


class Frame(IntEnum):
    """What came from a board."""

    MESSAGE = 0  # a binary message, whole
    CONTROL = 1  # a ping, which is answered by the websocket's holder, or a pong
    TEXT = 2
    BROKEN = 3  # no websocket frame; the content says why


class Listener(Protocol):
    """Who takes what a board says; all of it on the event loop, and without waiting."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is wanted."""

    def receive_bytes(self, num_bytes: int) -> None:
        """So many bytes came, whatever frames they make."""

    def seconds_to_wait(self) -> float:
        """How long the next frame has to wait at least; 0: it may be taken."""

    def take(self, frame: Frame, content: bytes) -> None:
        """Take one frame in; whatever it raises ends `read`."""


class BoardSocket(Protocol):
    """One open websocket."""

    def put(self, packed: bytes) -> None:
        """Send a message, or queue it; raises `Overrun` where too many wait, as `put_parts`."""

    def put_parts(self, parts: Sequence[bytes]) -> None:
        """Queue the parts of a long message, to be sent between other messages."""

    def end(self) -> None:
        """Say goodbye after the messages that are queued."""

    def abort(self) -> None:
        """End now, whatever the board has not read."""

    def deafen(self) -> None:
        """Throw away whatever comes from now on."""

    async def read(self, listener: Listener) -> None:
        """Hand on what comes, until there is nothing more or nothing more is wanted.

        Raises:
            Overrun: the board does not read what was put.
            Exception: what `listener.take` raised.
        """

    async def farewell(self, seconds: float) -> None:
        """Give the board so long to read its last messages; then the connection is over."""
