"""What strangers make of HTTP: answered by a 4xx, and kept out of the log.

The HTTP server answers some of it before any middleware of ours, and writes a traceback for each.
This module must never hide an error of our own.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import HttpVersion11, hdrs, web
from yarl import URL

RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_NOWHERE = URL("/%00")
_CLOSE = {hdrs.CONNECTION: "close"}


def refuses_nonsense(handle: RequestHandler) -> RequestHandler:
    """Answer requests whose headers are no text, or that expect what HTTP does not know.

    The server would quote them in its own answers, and fail at that.
    """

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        headers = request.headers
        if any(not value.isascii() and not _is_text(value) for value in headers.values()):
            raise web.HTTPBadRequest(text="a header is no UTF-8 text\n", headers=_CLOSE)
        expected = headers.get(hdrs.EXPECT, "")
        if expected and request.version >= HttpVersion11 and expected.lower() != "100-continue":
            sentence = "the only expectation that is met is 100-continue\n"
            raise web.HTTPExpectationFailed(text=sentence, headers=_CLOSE)
        return await handle(request)

    return answer


def _is_text(value: str) -> bool:
    """Whether all bytes were UTF-8; those that are not came in as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def gives_an_address(make: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """Let a request that the parser found no address in ask for one that is nowhere: a 404.

    The server would fail before it answers, and leave the connection hanging.
    """

    def make_request(message: Any, *others: Any) -> web.BaseRequest:
        return make(message if message.url is not None else message._replace(url=_NOWHERE), *others)

    return make_request


def is_our_error(record: logging.LogRecord) -> bool:
    """A filter for the HTTP server's log: strangers who send no HTTP are no error of ours.

    Nor are bodies that are not what their headers say, nor those who are gone before their answer;
    the server would write a traceback for each.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ConnectionResetError | web.RequestPayloadError):
        return False
    code = getattr(error, "code", None)
    return not (isinstance(code, int) and 400 <= code < 500)
