"""The page of metrics: who may see it, and how it is made beside the event loop.

It shows every device, so it is the operator's. This module must never know what is on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import msgspec

from shared.config.secrets import is_same_secret
from shared.daemon.http_server import bearer_token
from shared.daemon.local_requests import is_local
from verifier.engine.metrics import Metrics

# A page is shown again for so many times as long as it took to make: however often it is asked for,
# that takes no more than 5 % of a core.
PAGE_REUSE = 20


class OperatorAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Who may see what is about all devices."""

    token: str | None = None  # None: no token opens it
    on_loopback: bool = True  # programs on this machine need none

    def is_open_to(self, remote: str | None, headers: Mapping[str, str]) -> bool:
        """Whether this request may; a device's token does not help."""
        shown = bearer_token(headers)
        if shown is not None and self.token is not None and is_same_secret(shown, self.token):
            return True
        return self.on_loopback and is_local(remote, headers)


ON_LOOPBACK = OperatorAccess()


class MetricsPage:
    """What /metrics shows; made for many who ask at once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._page = b""
        self._until = 0.0
        self._making = asyncio.Lock()

    async def read(self) -> bytes:
        """The page; up to `PAGE_REUSE` times its making old."""
        loop = asyncio.get_running_loop()
        async with self._making:
            if loop.time() >= self._until:
                asked_at = loop.time()
                self._page, seconds = await asyncio.to_thread(self._make)
                self._until = asked_at + PAGE_REUSE * seconds
        return self._page

    def _make(self) -> tuple[bytes, float]:
        """The page, and how long the processor was busy with it."""
        began_at = time.thread_time()
        return self._metrics.page(), time.thread_time() - began_at
