"""What a client asks for, from a request's body: within limits of size and time, and unpacked.

This module must never look into a body; `edge_agent.api.large_body` has it read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import hdrs, web

from edge_agent.api.content_encoding import decoded
from edge_agent.api.large_body import SHORT_BODY_BYTES, BodyReader
from edge_agent.api.large_body_reader import BodyKind
from edge_agent.api.requests.client_request import ClientRequest
from shared.daemon.connection_gate import gated_connection_of
from shared.protocol.prompt_parts import MAX_PROMPT_BYTES

# The longest prompt, and a quarter as much for what JSON adds. Whether its tokens fit the context
# is the verifier's to say.
MAX_BODY_BYTES = MAX_PROMPT_BYTES * 5 // 4
MAX_LARGE_BODIES = 4  # that come or are read at once: the others wait for their turn


class RequestBodies:
    """Of one agent; a body that is longer in coming than `seconds` is a 408."""

    def __init__(self, reader: BodyReader, seconds: float) -> None:
        self._reader = reader
        self._seconds = seconds
        self._large_bodies = asyncio.Semaphore(MAX_LARGE_BODIES)

    async def read(self, request: web.Request, kind: BodyKind) -> ClientRequest:
        """The request that its body is.

        Raises:
            RequestRefused: it is no JSON object, or one of its fields is refused.
            HTTPException: it is too long, too slow, or not what its headers say.
        """
        size = request.content_length
        if size is not None and size > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, size)
        if size is not None and size <= SHORT_BODY_BYTES and not _is_compressed(request):
            return await self._reader.read(await self._body(request), kind)
        async with self._large_bodies:
            return await self._reader.read(await self._body(request), kind)

    async def read_short(self, request: web.Request, most_bytes: int) -> bytes:
        """A body of no more than so many bytes, unpacked.

        Raises:
            HTTPException: it is longer, too slow, or not what its headers say.
        """
        size = request.content_length
        if size is None or size > most_bytes:
            raise web.HTTPRequestEntityTooLarge(most_bytes, size or most_bytes + 1)
        return await self._body(request, most_bytes)

    async def _body(self, request: web.Request, most_bytes: int = MAX_BODY_BYTES) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                with _ends_half_closed(request):
                    body = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(
                text=f"the body did not arrive within {self._seconds:g} s",
                headers={hdrs.CONNECTION: "close"},
            ) from None
        except web.RequestPayloadError:
            raise web.HTTPBadRequest(
                text="the body is not what its headers say", headers={hdrs.CONNECTION: "close"}
            ) from None
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "")
        return await decoded(body, encoding, most_bytes)


@contextmanager
def _ends_half_closed(request: web.Request) -> Iterator[None]:
    """While a body comes: of a client that says no more no more comes."""
    connection = gated_connection_of(request.transport)

    def end() -> None:
        if not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("the client said no more"))
            request.content.feed_eof()  # or the server would wait for the rest

    if connection is None:
        yield
        return
    connection.on_half_close = end
    if connection.is_half_closed:
        end()
    try:
        yield
    finally:
        connection.on_half_close = None


def _is_compressed(request: web.Request) -> bool:
    """Whether a body is longer than its headers say."""
    return hdrs.CONTENT_ENCODING in request.headers
