"""Bodies that came compressed, unpacked within a limit and beside the event loop.

The HTTP server unpacks none: a body that is refused would be unpacked, too.
"""

from __future__ import annotations

import asyncio
import zlib

from aiohttp import hdrs, web

# The window of zlib's own format, and of gzip's.
_WINDOW_BITS = {"deflate": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS | 16}


async def decoded(body: bytes, content_encoding: str, most_bytes: int) -> bytes:
    """The body as it was before it was compressed, as its Content-Encoding says.

    Raises:
        HTTPUnsupportedMediaType: it says something else than gzip or deflate.
        HTTPBadRequest: the body is not what it says.
        HTTPRequestEntityTooLarge: it comes to more than `most_bytes`.
    """
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise web.HTTPUnsupportedMediaType(
            text="a body may be compressed with gzip or deflate, no other way",
            headers={hdrs.ACCEPT_ENCODING: ", ".join(_WINDOW_BITS)},
        )
    unpacked = await asyncio.to_thread(_unpack, body, _WINDOW_BITS[encoding], most_bytes)
    if unpacked is None:
        raise web.HTTPBadRequest(text=f"the body is no {encoding}")
    if len(unpacked) > most_bytes:
        raise web.HTTPRequestEntityTooLarge(most_bytes, len(unpacked))
    return unpacked


def _unpack(body: bytes, window_bits: int, most_bytes: int) -> bytes | None:
    """One byte more than may be where it is too long, None where it is damaged or cut."""
    unpacking = zlib.decompressobj(window_bits)
    try:
        unpacked = unpacking.decompress(body, most_bytes + 1)
    except zlib.error:
        return None
    is_whole = unpacking.eof and not unpacking.unused_data
    return unpacked if is_whole or len(unpacked) > most_bytes else None
