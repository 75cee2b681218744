"""Clients that say no more: they wait for their answer, or are gone, which looks the same at first.

What is sent to one that is gone comes back as a reset; the second time the loop hears of it, and
the HTTP server ends its request.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from types import TracebackType

from aiohttp import HttpVersion11, web

from shared.daemon.connection_gate import gated_connection_of

PROBE_SECONDS = (0.2, 0.5)  # after the first and the second sign of life; then ever the longest
LONGEST_PROBE_SECONDS = 5.0
_INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"  # clients skip responses of 1xx (RFC 9110, 15.2)


class ClientGone(Exception):
    """The client left, or does not read any more."""


def interim_response(request: web.Request) -> Callable[[], Awaitable[None]]:
    """What shows a client before its response that it is thought of; in HTTP/1.0 nothing may."""

    async def show_life() -> None:
        if request.transport is not None and request.version >= HttpVersion11:
            request.transport.write(_INTERIM)

    return show_life


class HalfClosed:
    """While a request is answered: `show_life` to its client, from when on it says no more."""

    def __init__(self, request: web.Request, show_life: Callable[[], Awaitable[None]]) -> None:
        self._connection = gated_connection_of(request.transport)
        self._show_life = show_life
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        if self._connection is None:
            return
        self._connection.on_half_close = self._start
        if self._connection.is_half_closed:
            self._start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.on_half_close = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _start(self) -> None:
        self._task = asyncio.create_task(self._probe(), name="half-closed client")

    async def _probe(self) -> None:
        for seconds in itertools.chain(PROBE_SECONDS, itertools.repeat(LONGEST_PROBE_SECONDS)):
            try:
                await self._show_life()
            except ClientGone:
                return  # the handler finds out by itself
            await asyncio.sleep(seconds)
