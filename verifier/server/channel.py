"""A channel of one connection: the stream behind it, also while that is still being opened."""

from __future__ import annotations

import asyncio

from shared.protocol.session import StreamState
from verifier.engine.service import VerifierService
from verifier.server.arriving_open import ArrivingOpen
from verifier.streams.stream import Stream


class Channel:
    """`stream` is None until there are tokens of its prompt."""

    __slots__ = ("arriving", "opening", "state", "stream")

    def __init__(self) -> None:
        self.state = StreamState.OPENING
        self.stream: Stream | None = None
        self.opening: asyncio.Task[None] | None = None
        self.arriving: ArrivingOpen | None = None  # while its Open goes on

    def discard(self, service: VerifierService) -> None:
        """End the stream without a last verdict."""
        self._stop_opening()
        if self.stream is not None:
            service.discard(self.stream)

    def park(self, service: VerifierService) -> None:
        """Keep the stream for its device to come back to it; one that is not open yet is not."""
        is_whole = self.arriving is None
        self._stop_opening()
        if self.stream is not None and is_whole:
            service.park(self.stream)
        elif self.stream is not None:
            service.discard(self.stream)

    def stop_arriving(self) -> None:
        """Wait for no further part of its Open."""
        if self.arriving is not None:
            self.arriving.stop()
            self.arriving = None

    def _stop_opening(self) -> None:
        self.stop_arriving()
        if self.opening is not None:
            self.opening.cancel()
