"""A channel of one connection: the stream behind it, also while that is still being opened."""

from __future__ import annotations

import asyncio

from shared.protocol.session import StreamState
from verifier.engine.service import VerifierService
from verifier.streams.stream import Stream


class Channel:
    """`stream` is None until the prompt is tokenized."""

    __slots__ = ("opening", "state", "stream")

    def __init__(self) -> None:
        self.state = StreamState.OPENING
        self.stream: Stream | None = None
        self.opening: asyncio.Task[None] | None = None

    def discard(self, service: VerifierService) -> None:
        """End the stream without a last verdict."""
        self._stop_opening()
        if self.stream is not None:
            service.discard(self.stream)

    def park(self, service: VerifierService) -> None:
        """Keep the stream for its device to come back to it; one that is not open yet is not."""
        self._stop_opening()
        if self.stream is not None:
            service.park(self.stream)

    def _stop_opening(self) -> None:
        if self.opening is not None:
            self.opening.cancel()
