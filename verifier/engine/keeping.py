"""Streams that are kept for their devices: until these come back, or the time of grace is over.

This module must never decide whether a stream is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from verifier.engine.device import Device
from verifier.engine.summaries import Summaries
from verifier.streams.kept_streams import EndedStream, KeptStream
from verifier.streams.stream import Stream


class Keeping:
    """Keeps streams on the event loop; those whose time is over are discarded."""

    def __init__(
        self, grace_seconds: Callable[[], float], discard: Callable[[list[Stream]], None]
    ) -> None:
        self._grace_seconds = grace_seconds
        self._discard = discard
        self._summaries = Summaries()

    def keep(
        self, device: Device, stream_id: int, epoch: int, content: Stream | EndedStream
    ) -> None:
        """Keep a stream, by the name that its board has for it, of a connection's epoch."""
        expires_at = asyncio.get_running_loop().time() + self._grace_seconds()
        kept = KeptStream(stream_id, epoch, expires_at, content)
        self._discard(device.kept.keep(kept))
        if not kept.is_open:
            self._summaries.add(device.kept, kept.stream_id)
        if device.expiry is None:
            self._await_expiry(device)

    def discard_all(self, device: Device) -> None:
        """Keep nothing more for a device."""
        self._discard(device.kept.discard_all())
        if device.expiry is not None:
            device.expiry.cancel()
            device.expiry = None

    def _expire(self, device: Device) -> None:
        self._discard(device.kept.discard_expired(asyncio.get_running_loop().time()))
        self._await_expiry(device)

    def _await_expiry(self, device: Device) -> None:
        """Discard the next kept stream when its time is over."""
        loop, at = asyncio.get_running_loop(), device.kept.next_expiry
        device.expiry = None if at is None else loop.call_at(at, self._expire, device)
