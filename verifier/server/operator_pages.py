"""Pages about all devices: who may see them, and how they are made beside the event loop.

They show every device, so they are the operator's. This module must never know what is on them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from shared.config.secrets import is_same_secret
from shared.daemon.http_server import bearer_token
from shared.daemon.local_requests import is_local
from verifier.server.device_tokens import NO_TOKENS, Role, TokenRoles, device_of

# A page is shown again for so many times as long as it took to make: however often it is asked for,
# that takes no more than 5 % of a core.
PAGE_REUSE = 20
# The dashboard is asked for every second by each who looks: 0.5 % of a core, however many devices
# there are. With 1,000 of them it is made every 3 to 5 s (17 to 26 ms of a core, 2026-11).
DASHBOARD_REUSE = 200
DASHBOARD_SECONDS = 0.9  # a page that asks every second gets news every time


Page = Literal["metrics", "dashboard"]
_OPENED_BY: Mapping[Page, tuple[Role, ...]] = {
    "metrics": ("metrics", "dashboard"),
    "dashboard": ("dashboard",),
}


class OperatorAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Who may see what is about all devices."""

    token: str | None = None  # of all pages; None: there is none
    on_loopback: bool = True  # programs on this machine need none
    roles: TokenRoles = NO_TOKENS

    def is_open_to(self, remote: str | None, headers: Mapping[str, str], page: Page) -> bool:
        """Whether this request may see the page; a board's token does not help."""
        shown = bearer_token(headers)
        if shown is not None:
            if self.token is not None and is_same_secret(shown, self.token):
                return True
            if any(device_of(shown, self.roles.of(role)) for role in _OPENED_BY[page]):
                return True
        return self.on_loopback and is_local(remote, headers)


ON_LOOPBACK = OperatorAccess()


class OperatorPage:
    """What /metrics and the dashboard show; made once for many who ask at once."""

    def __init__(
        self, make: Callable[[], bytes], *, reuse: float = PAGE_REUSE, least_seconds: float = 0.0
    ) -> None:
        """`make` is called in a thread; a page is shown for `reuse` times its making at least."""
        self._make_page = make
        self._reuse = reuse
        self._least_seconds = least_seconds
        self._page = b""
        self.tag = ""  # of the last page, another for each
        self._until = 0.0
        self._making = asyncio.Lock()

    async def read(self) -> bytes:
        """The page, made anew where the last one is too old."""
        loop = asyncio.get_running_loop()
        async with self._making:
            if loop.time() >= self._until:
                asked_at = loop.time()
                self._page, seconds = await asyncio.to_thread(self._make)
                self.tag = f"{asked_at:.6f}"
                self._until = asked_at + max(self._reuse * seconds, self._least_seconds)
        return self._page

    def _make(self) -> tuple[bytes, float]:
        """The page, and how long the processor was busy with it."""
        began_at = time.thread_time()
        return self._make_page(), time.thread_time() - began_at
