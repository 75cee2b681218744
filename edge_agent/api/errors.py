"""Every failure of a request as one answer in OpenAI's error shape."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from edge_agent.api.openai_response import error_object
from shared.daemon.peer_text import one_line
from shared.errors import (
    GoodspeedError,
    HandshakeRejected,
    RequestRefused,
    TooManyStreams,
    VerifierAway,
)

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5  # about two tries of the agent's own to reach the verifier

_KEPT_HEADERS = ("Allow", "Connection", "Retry-After")


@dataclass(frozen=True, slots=True)
class Failure:
    """Status, JSON and headers of an answer."""

    status: HTTPStatus
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def failure_of(error: GoodspeedError) -> Failure:
    """What a client gets for the error."""
    match error:
        case RequestRefused():
            body = error_object(str(error), "invalid_request_error", param=error.field)
            return Failure(HTTPStatus.BAD_REQUEST, body)
        case TooManyStreams():
            body = error_object(str(error), "rate_limit_error", code="too_many_streams")
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            return Failure(HTTPStatus.TOO_MANY_REQUESTS, body, headers)
        case HandshakeRejected():
            # OpenAI's clients try again after any 5xx, unless they are told that it is futile.
            body = error_object(str(error), "server_error", code="verifier_refuses")
            headers = {"X-Should-Retry": "false"}
            return Failure(HTTPStatus.BAD_GATEWAY, body, headers)
        case VerifierAway():
            body = error_object(str(error), "server_error", code="verifier_away")
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            return Failure(HTTPStatus.SERVICE_UNAVAILABLE, body, headers)
        case _:
            return Failure(HTTPStatus.BAD_GATEWAY, error_object(str(error), "server_error"))


def internal_failure() -> Failure:
    """What a client gets for a bug of ours; the log has the rest."""
    body = error_object("the agent failed; its log says why", "server_error", code="internal")
    return Failure(HTTPStatus.INTERNAL_SERVER_ERROR, body)


@web.middleware
async def errors_in_openai_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware; whatever a route raises becomes a JSON answer."""
    try:
        return await handler(request)
    except GoodspeedError as error:
        return _response(failure_of(error))
    except web.HTTPException as error:
        return _response(_http_failure(request, error))
    except ConnectionError:
        return web.Response(status=HTTPStatus.BAD_REQUEST)  # never read: the client is gone
    except Exception:
        logger.exception("%s %s failed", one_line(request.method), one_line(request.path))
        return _response(internal_failure())


def _response(failure: Failure) -> web.Response:
    return web.json_response(failure.body, status=failure.status, headers=failure.headers)


def _http_failure(request: web.Request, error: web.HTTPException) -> Failure:
    match error:
        case web.HTTPNotFound():
            sentence = f"unknown URL ({request.method} {request.path})"
        case web.HTTPMethodNotAllowed():
            sentence = f"method {request.method} is not allowed for {request.path}"
        case _:
            sentence = " ".join((error.text or error.reason).split())
    headers = {name: error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
    body = error_object(sentence, "invalid_request_error")
    return Failure(HTTPStatus(error.status), body, headers)
