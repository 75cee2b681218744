"""One streamed answer: headers with the first line, a sign of life while nothing comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType

from aiohttp import hdrs, web

from edge_agent.api.answers.half_closed import ClientGone, interim_response

SEND_SECONDS = 30.0  # a client that reads nothing for so long is dropped


class EventStream:
    """Sends lines to one client; an async context that ends when its block ends.

    Headers wait for the first line, so that an early failure can still be an HTTP status, but not
    longer than `keepalive_seconds`: proxies and clients give up on a server that says nothing.
    """

    def __init__(
        self,
        request: web.Request,
        headers: Mapping[str, str],
        *,
        media_type: str,
        keepalive: Callable[[], bytes],
        keepalive_seconds: float,
    ) -> None:
        self._request = request
        self._keepalive = keepalive
        self._show_life = interim_response(request)
        self._keepalive_seconds = keepalive_seconds
        self._lock = asyncio.Lock()
        self._num_lines = 0
        self.response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: media_type,
                hdrs.CACHE_CONTROL: "no-cache",
                "X-Accel-Buffering": "no",  # nginx would collect the lines
                **headers,
            }
        )

    async def __aenter__(self) -> EventStream:
        self._living = asyncio.create_task(self._keep_alive(), name="event stream keepalive")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._living.cancel()
        await asyncio.wait({self._living})

    async def send(self, line: bytes) -> None:
        """Send one line, waiting for a client that reads slowly.

        Raises:
            ClientGone: the client is not there to read it.
        """
        async with self._lock:
            self._num_lines += 1
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    if not self.response.prepared:
                        await self.response.prepare(self._request)
                    await self.response.write(line)
            except TimeoutError as error:
                if self._request.transport is not None:
                    self._request.transport.abort()
                raise ClientGone(f"nothing was read for {SEND_SECONDS:g} s") from error
            except ConnectionError as error:
                raise ClientGone(str(error)) from error

    async def show_life(self) -> None:
        """Say that there is nothing to say, so that a client that is gone shows itself.

        Raises:
            ClientGone: it is.
        """
        if self.response.prepared:
            await self.send(self._keepalive())
        else:
            async with self._lock:
                await self._show_life()

    async def _keep_alive(self) -> None:
        while True:
            num_lines = self._num_lines
            await asyncio.sleep(self._keepalive_seconds)
            if self._num_lines == num_lines:
                try:
                    await self.send(self._keepalive())
                except ClientGone:
                    return  # the handler finds out by itself
